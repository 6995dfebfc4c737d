"""Training the head on stored features, and predicting the images whose features are stored.

Imports Keras: call `start_keras` first.
"""

from collections.abc import Sequence

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.fast_fit import Fitted, fit
from dermoscopy.model.head import build_head, predict_probabilities
from dermoscopy.runtime.params import Train

IMAGES_AT_A_TIME = 256  # all views of each: 5 MB with three views of 1,536 numbers


def train_head(
    features: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    classes: int,
    train: Train,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[keras.Model, Fitted]:
    """Build a head for `classes` classes and train it; see `fit`, whose arguments these are.

    Returns:
        The head, with the best weights, and how its training went.
    """
    mean, variance = feature_moments(features, training["row"].to_numpy())
    head = build_head(mean, variance, train.dropout, classes)
    return head, fit(head, features, training, validation, train, callbacks)


def feature_moments(features: FeatureReader, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance, (dim,) each, over all views of the images in `rows`.

    scikit-learn's StandardScaler gives a feature that never changes the variance 1, so that it stays finite.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for view in range(features.info.views):
        for start in range(0, len(rows), IMAGES_AT_A_TIME):
            scaler.partial_fit(features.view(view, rows[start : start + IMAGES_AT_A_TIME]).astype(np.float64))
    mean, scale = scaler.mean_, scaler.scale_
    if features.scaled:  # a rare value would be a number of many times the scale of the others
        mean[-features.scaled :], scale[-features.scaled :] = 0, 1
    return mean, scale**2


def predict_views(head: keras.Model, features: FeatureReader, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return class probabilities, (len(rows), views, classes), of all views of some images."""
    blocks = []
    for start in range(0, len(rows), IMAGES_AT_A_TIME):
        views = features.all_views(rows[start : start + IMAGES_AT_A_TIME])
        flat = predict_probabilities(head, views.reshape(-1, views.shape[-1]))
        blocks.append(flat.reshape(*views.shape[:2], -1))
    return np.concatenate(blocks)
