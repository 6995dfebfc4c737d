"""The training images as the head sees them: which are most similar to another image, and whether that is like any."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.tables import read_table
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.head import Head
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import FEATURES, HEAD, MANIFEST, SPLIT

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

SIMILAR = 6  # how many are shown
COMPONENTS = 64  # of the training images; at most a quarter of their number
ACCEPTED = 0.99  # of the held-out images count as like the training images


class Similar(NamedTuple):
    """A training image, and its cosine with another image, -1 to 1, of their standardised features."""

    image_id: str
    label: str
    path: str
    sha256: str
    cosine: float


class TrainingImages:
    """The standardised features of the training images: the search in them is exact.

    How far an image is from all of them is the share, 0 to 1, of its features that lies outside the principal
    components of theirs, by length: the residual of Wang et al., ViM, CVPR 2022. On HAM10000 it tells photographs of
    other things apart where the cosine with the nearest image and its distance do not (docs/app.md).
    """

    def __init__(
        self, head: Head, images: pd.DataFrame, training: NDArray[np.float32], held_out: NDArray[np.float32]
    ) -> None:
        """Take the head, for its standardisation, the training images and features, (n, dim), of the images alone.

        Args:
            head: trained on these images.
            images: `image_id, label, path, sha256`, a row a training image.
            training: their features.
            held_out: features of the images that choose the limit.
        """
        dim = training.shape[1]
        self._mean, self._deviation = head.mean[:dim], head.deviation[:dim]
        columns = images[["image_id", "label", "path", "sha256"]].assign(cosine=1.0)
        self._images = [Similar(*row) for row in columns.itertuples(index=False, name=None)]
        self._training, self._held_out = self._standardise(training), held_out
        self._lengths = lengths(self._training)

    @classmethod
    def read(cls, head: Head, info: HeadInfo, features: FeatureReader) -> Self:
        """Return those of the current folder; a DataError if split or manifest cannot be read, or features are of
        another backbone than the head."""
        images = read_table(MANIFEST, "image_id", "label", "path", "sha256").merge(
            read_table(SPLIT, "image_id", "part"), on="image_id"
        )
        if info.backbone != features.info.backbone:
            raise DataError(f"{FEATURES} are of another backbone than {HEAD}: run dvc repro")
        training, held_out = (images[images["part"] == part] for part in ("train", "validation"))
        of_parts = (features.view(0, features.rows(part["image_id"])) for part in (training, held_out))
        return cls(head, training, *of_parts)

    def most_similar(self, features: NDArray[np.float32], count: int = SIMILAR) -> list[list[Similar]]:
        """Return, for each row of features, (n, dim), of images alone, the training images of the largest cosines."""
        asked = self._standardise(features)
        cosines = asked @ self._training.T / (lengths(asked)[:, None] * self._lengths)
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return [
            [self._images[place]._replace(cosine=float(of_image[place])) for place in nearest]
            for of_image, nearest in zip(cosines, order, strict=True)
        ]

    @cached_property
    def limit(self) -> float:
        """How far away ACCEPTED of the held-out images are at most."""
        return float(np.quantile(self.distance(self._held_out), ACCEPTED))

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how far images are from all training images, (n,), 0 to 1, by their features, (n, dim)."""
        around = self._standardise(features) - self._components.mean_
        inside = around @ self._components.components_.T
        whole, within = (np.square(part, dtype=np.float64).sum(axis=1) for part in (around, inside))
        # an image exactly in the middle is not far away
        return np.sqrt(np.clip(1 - within / np.maximum(whole, np.finfo(np.float32).tiny), 0, 1))

    @cached_property
    def _components(self) -> "PCA":
        from sklearn.decomposition import PCA  # with the import a second, which who only searches need not wait for

        images, dim = self._training.shape
        return PCA(max(1, min(COMPONENTS, images // 4, dim // 4)), svd_solver="covariance_eigh").fit(self._training)

    def _standardise(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((features - self._mean) / self._deviation, np.float32)


def lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the length of each row of (n, dim), (n,); that of zeros is the smallest number above."""
    return np.asarray(np.maximum(np.linalg.norm(rows, axis=1), np.finfo(np.float32).tiny), np.float32)
