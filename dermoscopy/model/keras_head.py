"""The head as Keras layers: to train it together with layers of the backbone, and to export it.

Imports Keras: call `start_keras` first.
"""

import keras
import numpy as np
from numpy.typing import NDArray

from dermoscopy.model.head import Head


def build_head(mean: NDArray[np.float32], deviation: NDArray[np.float32], dropout: float, classes: int) -> keras.Model:
    """Return a head that has learnt nothing, from features (batch, dim) to probabilities (batch, classes)."""
    return keras.Sequential(
        [
            keras.Input((len(mean),), name="features"),
            keras.layers.Normalization(mean=mean, variance=deviation**2, name="normalization"),
            keras.layers.Dropout(dropout, name="dropout"),
            keras.layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="head",
    )


def to_keras(head: Head, dropout: float = 0) -> keras.Model:
    """Return a head as `build_head` builds it, with what it has learnt."""
    model = build_head(head.mean, head.deviation, dropout, len(head.bias))
    model.get_layer("probabilities").set_weights([head.kernel, head.bias])
    return model


def from_keras(model: keras.Model) -> Head:
    """Return a head that `build_head` built and Keras trained."""
    normalization = model.get_layer("normalization")
    mean, variance = (
        keras.ops.convert_to_numpy(array).ravel() for array in (normalization.mean, normalization.variance)
    )
    # the layer divides by no less
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon()).astype(np.float32)
    return Head(mean, deviation, *model.get_layer("probabilities").get_weights())
