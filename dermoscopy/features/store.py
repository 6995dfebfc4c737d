"""data/features/: the feature of every image and view.

`index.csv` names the image of each row (`image_id, sha256`), `view_000.npy` and so on hold one (images, dim) float32
matrix a view, `features.json` says what made them.
"""

import hashlib
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from dermoscopy.data.tables import read_table
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.paths import FEATURES

HELD = 2**29  # bytes a process; HAM10000 with three views of 1,280 numbers takes 154 MB


class FeaturesInfo(BaseModel):
    """features.json: what made the features; `keys` identify each view (see dermoscopy/features/recipe.py).

    `checksum` is over all other files of the folder and all else that is said here: DVC trusts its cache, and a file in
    there that was damaged comes back without a word.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backbone: str
    engine: str
    augmentation: Augmentation
    dim: int = Field(ge=1)
    images: int = Field(ge=1)
    keys: list[str] = Field(min_length=1)
    checksum: str

    @property
    def views(self) -> int:
        """How many views an image has, itself included."""
        return len(self.keys)


def view_file(folder: Path, view: int) -> Path:
    """Return where the matrix of a view is."""
    return folder / f"view_{view:03d}.npy"


def npy_header(info: FeaturesInfo) -> bytes:
    """Return what each view file begins with; (images, dim) little-endian float32 follow, row by row."""
    header = BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": (info.images, info.dim)}
    np.lib.format.write_array_header_1_0(header, description)
    return header.getvalue()


def sealed(info: FeaturesInfo, folder: Path) -> FeaturesInfo:
    """Return `info` with the checksum, SHA-256 in hexadecimal, of itself and of the files beside it."""
    digest = hashlib.sha256(info.model_dump_json(exclude={"checksum"}).encode())
    for path in [folder / "index.csv", *(view_file(folder, view) for view in range(info.views))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return info.model_copy(update={"checksum": digest.hexdigest()})


def write_features(manifest: pd.DataFrame, chunks: list[ViewChunks], info: FeaturesInfo, destination: Path) -> None:
    """Write a folder of features from complete chunks, a chunk in memory at a time.

    Not through a memory map: where the disk is full, that kills the process without a word.
    """
    header = npy_header(info)
    with replacing(destination, size=4 * info.dim * info.images * info.views) as folder:
        folder.mkdir()
        for view, of_view in enumerate(chunks):
            with view_file(folder, view).open("wb") as file:
                file.write(header)
                for numbers, features in of_view.read():
                    for number, feature in zip(numbers.tolist(), features, strict=True):
                        file.seek(len(header) + number * feature.nbytes)
                        file.write(feature.data)
        manifest[["image_id", "sha256"]].to_csv(folder / "index.csv", index=False)
        (folder / "features.json").write_text(sealed(info, folder).model_dump_json(indent=2) + "\n", encoding="utf-8")


class FeatureReader:
    """The features of a folder: kept in memory where all take HELD bytes at most, else read when they are asked for.

    They are then read from the file, not through a memory map: a map counts as memory of the process, page by page,
    until all features are in it.

    Attributes:
        info: what made them.
        image_ids: the image of each row.
        sha256: its content when it was seen, as bytes.
        scaled: how many numbers at the end of each feature are of the scale 1 already, as features are not.
    """

    scaled = 0

    def __init__(self, folder: Path = FEATURES, views: int | None = None) -> None:
        """Open a folder; a DataError if a file is missing, damaged or contradicts the others.

        Args:
            folder: where they are.
            views: how many augmented views are seen, of those that there are; None means all.
        """
        remedy = "run dvc repro features, or, where DVC sees no change, dvc repro --force --single-item features"
        try:
            self.info = FeaturesInfo.model_validate_json((folder / "features.json").read_text(encoding="utf-8"))
            self._files = [view_file(folder, view) for view in range(self.info.views)]
            intact = sealed(self.info, folder) == self.info
            index = read_table(folder / "index.csv", "image_id", "sha256")
            self.image_ids = pd.Index(index["image_id"])
            self.sha256 = index["sha256"].to_numpy("S64")  # a quarter of the memory of str
            # the header is compared, not parsed: nothing in it is trusted
            header = npy_header(self.info)
            begins = {_first_bytes(file, len(header)) for file in self._files}
            sizes = {file.stat().st_size for file in self._files}
        except (OSError, ValueError) as error:
            raise DataError(f"{folder} cannot be read ({error}): {remedy}") from None
        self._start = len(header)
        self._held: dict[int, NDArray[np.float32]] = {}
        size = self._start + self.info.images * self.info.dim * np.dtype(np.float32).itemsize
        if not intact:
            raise DataError(f"{folder} is damaged, its files do not have the checksum of features.json: {remedy}")
        if begins != {header} or sizes != {size} or len(self.image_ids.unique()) != self.info.images:
            raise DataError(f"the files of {folder} contradict each other: {remedy}")
        if views is not None:
            augmentation = self.info.augmentation.model_copy(update={"views": views})
            seen = {"keys": self.info.keys[: views + 1], "augmentation": augmentation}
            self.info = self.info.model_copy(update=seen)
        self._hold = 4 * self.info.dim * self.info.images * self.info.views <= HELD

    def rows(self, image_ids: Iterable[str]) -> NDArray[np.intp]:
        """Return the row of each image; a DataError names the first that has none."""
        wanted = pd.Index(image_ids)
        rows = self.image_ids.get_indexer(wanted)
        if (rows < 0).any():
            raise DataError(f"image {wanted[rows < 0][0]} has no features: run dvc repro features")
        return rows

    def view(self, view: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features, (len(rows), dim), of one view of some images."""
        if self._hold:
            if view not in self._held:
                self._held[view] = self._read(view, np.arange(self.info.images))
            return self._held[view][rows]
        return self._read(view, rows)

    def _read(self, view: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        features = np.empty((len(rows), self.info.dim), np.float32)
        with self._files[view].open("rb", buffering=0) as file:
            for row, feature in zip(rows.tolist(), features, strict=True):
                if os.preadv(file.fileno(), [feature.data], self._start + row * feature.nbytes) != feature.nbytes:
                    raise DataError(f"{self._files[view]} became shorter while it was read: run dvc repro features")
        return features

    def random_views(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features, (len(rows), dim), of view views[i] of image rows[i]."""
        features = np.empty((len(rows), self.info.dim), np.float32)
        for view in range(self.info.views):
            chosen = views == view
            features[chosen] = self.view(view, rows[chosen])
        return features


def _first_bytes(path: Path, count: int) -> bytes:
    with path.open("rb") as file:
        return file.read(count)
