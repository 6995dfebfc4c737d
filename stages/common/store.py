"""Features that have been computed: work in progress beside data/features, which outlives a killed run.

DVC removes a stage's outputs before it runs the stage, so what a run can take up again must lie elsewhere. A chunk is
one file, written whole: the features of one view for up to 256 images, each under a key that says what it was made
from. Whatever is found is used only for images and views with the very same keys, so order, number of views and the
set of images may change between runs, and a file left by another backbone or engine does no harm.
"""

import hashlib
import json
import os
import shutil
import zipfile
import zlib
from inspect import getsource
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common import engines, images, views
from stages.common.errors import DataError
from stages.common.files import replacing
from stages.common.params import Augmentation

CHUNK = 256
# At HAM10000's size a view of InceptionResNetV2 features takes 62 MB.
KEEP_VIEWS = 64


def view_key(backbone: str, engine: str, augmentation: Augmentation, view: int) -> str:
    """Return what identifies a view: all that decides its features beside the image, our code included."""
    warp = augmentation.model_dump(exclude={"views"}) if view else {}
    made_from = {
        "backbone": backbone,
        "engine": engine,
        "opencv": cv2.__version__,
        "code": [hashlib.sha256(getsource(module).encode()).hexdigest() for module in (engines, images, views)],
        "view": view,
        "warp": warp,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def image_keys(manifest: pd.DataFrame) -> list[bytes]:
    """Return what identifies each image: its id, which decides its warps, and its content; 32 bytes."""
    pairs = zip(manifest["image_id"], manifest["sha256"], strict=True)
    return [hashlib.sha256(f"{image_id}/{sha256}".encode()).digest() for image_id, sha256 in pairs]


class ViewStore:
    """The chunks of one view."""

    def __init__(self, root: Path, key: str, image_keys: list[bytes]) -> None:
        """Take stock of the chunks in root/key; one that is damaged is deleted.

        Attributes:
            row_of_image: for each of `image_keys`, (chunk, row in the chunk); absent where it is to be computed.
        """
        self._folder = root / key[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        os.utime(self._folder)  # see `prune`
        wanted = {image: number for number, image in enumerate(image_keys)}
        self._found: dict[int, tuple[Path, int]] = {}
        for path in sorted(self._folder.glob("*.npz")):
            chunk = _read_chunk(path)
            if chunk is None:
                path.unlink()
                continue
            for row, image in enumerate(chunk[0]):
                number = wanted.get(image.tobytes())
                if number is not None:
                    self._found[number] = (path, row)
        self._images = image_keys

    def __contains__(self, number: int) -> bool:
        return number in self._found

    def add(self, numbers: list[int], features: NDArray[np.float32]) -> None:
        """Store the features, (len(numbers), dim), of images by their number."""
        keys = np.frombuffer(b"".join(self._images[number] for number in numbers), np.uint8).reshape(-1, 32)
        path = self._folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.npz"
        with replacing(path) as partial:
            np.savez(partial, images=keys, features=features)
        self._found.update({number: (path, row) for row, number in enumerate(numbers)})

    def write_to(self, matrix: NDArray[np.float32]) -> None:
        """Fill an (images, dim) matrix with all features, chunk by chunk."""
        places = pd.DataFrame.from_dict(self._found, orient="index", columns=["path", "row"])
        for path, group in places.groupby("path"):
            chunk = _read_chunk(Path(str(path)))
            if chunk is None:
                raise DataError(f"{path} was damaged while the stage ran: run dvc repro again")
            matrix[group.index.to_numpy()] = chunk[1][group["row"].to_numpy()]


def _read_chunk(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]] | None:
    """Return image keys, (n, 32), and features, (n, dim), of a chunk, or None if it is damaged."""
    try:
        with zipfile.ZipFile(path) as chunk:
            # read whole, because the CRC is checked at the end, and only then taken for arrays
            members = [BytesIO(chunk.read(f"{name}.npy")) for name in ("images", "features")]
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    keys, features = (np.lib.format.read_array(member, allow_pickle=False) for member in members)
    intact = keys.shape == (len(features), 32) and features.ndim == 2 and features.dtype == np.float32
    return (keys, features) if intact else None


def prune(root: Path, keep: int = KEEP_VIEWS) -> None:
    """Delete all but the most recently used views, so that the store does not grow without limit."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-keep]:
        shutil.rmtree(folder)
