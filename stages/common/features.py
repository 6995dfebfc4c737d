"""data/features/: the feature of every image and view, memory-mapped.

`index.csv` names the image of each row (`image_id, sha256`), `view_000.npy` and so on hold one (images, dim) float32
matrix a view, `features.json` says what made them.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stages.common.errors import DataError
from stages.common.params import Augmentation
from stages.common.tables import read_table

FEATURES = Path("data/features")


class FeaturesInfo(BaseModel):
    """features.json: what made the features; `keys` identify each view (see stages/common/store.py)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    engine: str
    augmentation: Augmentation
    dim: int
    images: int
    keys: list[str]

    @property
    def views(self) -> int:
        """How many views an image has, itself included."""
        return len(self.keys)


def view_file(folder: Path, view: int) -> Path:
    """Return where the matrix of a view is."""
    return folder / f"view_{view:03d}.npy"


class FeatureReader:
    """The features of a folder; nothing is read before it is asked for.

    Attributes:
        info: what made them.
        image_ids: the image of each row.
    """

    def __init__(self, folder: Path = FEATURES) -> None:
        """Open a folder; a DataError says so if a file is missing or contradicts the others."""
        try:
            self.info = FeaturesInfo.model_validate_json((folder / "features.json").read_text(encoding="utf-8"))
            self._views = [np.lib.format.open_memmap(view_file(folder, view), "r") for view in range(self.info.views)]
        except Exception as error:  # NumPy lets pass what Python's tokenizer raises at a damaged header
            raise DataError(f"{folder} cannot be read ({error}): run dvc repro features") from None
        self.image_ids = pd.Index(read_table(folder / "index.csv", "image_id")["image_id"])
        kinds = {(view.shape, view.dtype) for view in self._views}
        expected = {((self.info.images, self.info.dim), np.dtype(np.float32))}
        if kinds != expected or len(self.image_ids) != self.info.images or not self.image_ids.is_unique:
            raise DataError(f"the files of {folder} contradict each other: run dvc repro --force features")

    def rows(self, image_ids: Iterable[str]) -> NDArray[np.intp]:
        """Return the row of each image; a DataError names the first that has none."""
        wanted = pd.Index(image_ids)
        rows = self.image_ids.get_indexer(wanted)
        if (rows < 0).any():
            raise DataError(f"image {wanted[rows < 0][0]} has no features: run dvc repro features")
        return rows

    def view(self, view: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features, (len(rows), dim), of one view of some images."""
        return np.asarray(self._views[view][rows])

    def all_views(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features, (len(rows), views, dim), of all views of some images."""
        return np.stack([view[rows] for view in self._views], axis=1)

    def random_views(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features, (len(rows), dim), of view views[i] of image rows[i]."""
        features = np.empty((len(rows), self.info.dim), np.float32)
        for view in range(self.info.views):
            chosen = views == view
            features[chosen] = self._views[view][rows[chosen]]
        return features
