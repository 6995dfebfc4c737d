"""What fine-tuning learns from: views of images, or what the frozen layers make of them, a batch at a time.

Imports Keras: call `start_keras` first.
"""

import os
from abc import ABC, abstractmethod
from typing import Any, Protocol

import keras
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.images import ImageFile
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.extraction import prepare_views
from dermoscopy.runtime.params import Augmentation

PREDICTED = 64  # images at a time


class Views(Protocol):
    """The views of some images, as what learns takes them."""

    def read(self, numbers: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return view views[i] of image numbers[i], (len(numbers), ...)."""
        ...

    def drawn(self, random: np.random.Generator, epoch: int, images: int) -> NDArray[np.intp]:
        """Return the number of the view that each image has in an epoch, counted from 1."""
        ...


class KeptViews:
    """What the frozen layers make of a fixed number of views, computed once."""

    def __init__(self, chunks: list[ViewChunks]) -> None:
        self._chunks = chunks

    def read(self, numbers: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        pairs = zip(numbers.tolist(), views.tolist(), strict=True)
        return np.stack([self._chunks[view][number] for number, view in pairs]).astype(np.float32)

    def drawn(self, random: np.random.Generator, epoch: int, images: int) -> NDArray[np.intp]:
        return random.integers(len(self._chunks), size=images)


class DrawnViews:
    """The views themselves, (n, size, size, 3), drawn when they are asked for; in every epoch new ones."""

    def __init__(self, images: pd.DataFrame, augmentation: Augmentation, size: int) -> None:
        """Take the images, `image_id, path, sha256`, by number; see `prepare_views`."""
        self._files = [ImageFile(*row) for row in images[["image_id", "path", "sha256"]].itertuples(index=False)]
        self._augmentation = augmentation
        self._size = size

    def read(self, numbers: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        pairs = zip(numbers.tolist(), views.tolist(), strict=True)
        drawn = [prepare_views(self._files[number], (view,), self._augmentation, self._size) for number, view in pairs]
        return np.concatenate(drawn).astype(np.float32)

    def drawn(self, random: np.random.Generator, epoch: int, images: int) -> NDArray[np.intp]:
        return np.full(images, epoch)


class Batches(keras.utils.PyDataset, ABC):
    """Batches made in threads, ahead of what takes them.

    Attributes:
        error: what kept one from being made.
    """

    def __init__(self, views: Views, images: int, size: int) -> None:
        """Of so many images, `size` at a time."""
        workers = os.cpu_count() or 1
        super().__init__(workers=workers, max_queue_size=workers + 2)
        self._views = views
        self._images = images
        self._size = size
        self.error: Exception | None = None

    def __len__(self) -> int:
        return -(-self._images // self._size)

    def __getitem__(self, index: int) -> tuple[NDArray[Any], ...]:
        try:
            return self.batch(slice(index * self._size, (index + 1) * self._size))
        except Exception as error:  # whatever it is, Keras hides it
            self.error = error
            raise

    @abstractmethod
    def batch(self, rows: slice) -> tuple[NDArray[Any], ...]:
        """Return inputs, and where they are known targets and weights, of some of the images in their order."""


class OneView(Batches):
    """One view of some images, in order, with targets where they are known."""

    def __init__(
        self, views: Views, numbers: NDArray[np.intp], view: int, targets: NDArray[np.int32] | None = None
    ) -> None:
        super().__init__(views, len(numbers), PREDICTED)
        self._numbers = numbers
        self._view = view
        self._targets = targets

    def batch(self, rows: slice) -> tuple[NDArray[Any], ...]:
        numbers = self._numbers[rows]
        inputs = self._views.read(numbers, np.full(len(numbers), self._view))
        return (inputs,) if self._targets is None else (inputs, self._targets[rows])


class Epochs(Batches):
    """All images, shuffled anew in every epoch, a view of each, with targets and weights.

    Order and views depend on the seed and the number of the epoch alone, so that an interrupted training goes on as if
    it had never been.
    """

    def __init__(
        self, views: Views, targets: NDArray[np.int32], weights: NDArray[np.float32], size: int, seed: int
    ) -> None:
        super().__init__(views, len(targets), size)
        self._targets = targets
        self._weights = weights
        self._seed = seed
        self.begin(1)

    def begin(self, epoch: int) -> None:
        """Shuffle for an epoch, counted from 1."""
        random = np.random.default_rng([self._seed, epoch])
        self._order = random.permutation(self._images)
        self._drawn = self._views.drawn(random, epoch, self._images)

    def batch(self, rows: slice) -> tuple[NDArray[Any], ...]:
        chosen = self._order[rows]
        return self._views.read(chosen, self._drawn[chosen]), self._targets[chosen], self._weights[chosen]


class StoredFeatures:
    """Features, (images, views, dim), in memory: the views that the head is warmed up on."""

    def __init__(self, features: NDArray[np.float32]) -> None:
        self._features = features

    def read(self, numbers: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        return self._features[numbers, views]

    def drawn(self, random: np.random.Generator, epoch: int, images: int) -> NDArray[np.intp]:
        return random.integers(self._features.shape[1], size=images)
