"""Keras on TensorFlow: the engine where there is a GPU."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermoscopy.runtime.keras_start import start_keras


class TensorFlowEngine:
    """TensorFlow, on a GPU where it finds one; batches have one fixed size, the last one is filled up."""

    BATCH = 32

    def __init__(self, folder: Path) -> None:
        start_keras(seed=0)
        import tensorflow as tf

        from dermoscopy.features.networks import load_backbone

        self._model = load_backbone(folder)
        self._infer = tf.function(lambda batch: self._model([batch], training=False))

    def compute(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        """Return the features, (count, dim), of `count` images, each (size, size, 3), RGB; of a trunk its maps."""
        features = np.empty((count, *self._model.output_shape[1:]), np.float32)
        batch = np.zeros((self.BATCH, *self._model.input_shape[1:]), np.float32)
        for row, image in enumerate(images):
            batch[row % self.BATCH] = image
            if row % self.BATCH == self.BATCH - 1 or row == count - 1:
                start = row - row % self.BATCH
                features[start : row + 1] = self._infer(batch)[: row + 1 - start]
        return features
