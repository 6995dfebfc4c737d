"""Chunks of features: work in progress beside data/features, which outlives a killed run.

DVC removes a stage's outputs before it runs the stage, so what a later run reuses must be kept elsewhere. A chunk is
one file, written whole: the features of one view for up to 256 images, each under a key that says what it was made
from. Whatever is found is used only for images and views with the very same keys, so order, number of views and the
set of images may change between runs, and a file left by another backbone or engine does no harm.

A chunk is a SHA-256 over the key of the view and all that follows, then one record an image: its key, 32 bytes, and
its feature, float32 (or what else is kept of an image). It has no header, so damage cannot change its shape.
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from dermoscopy.runtime.errors import BackboneError, DataError, DiskError
from dermoscopy.runtime.files import project_folder, replacing
from dermoscopy.runtime.paths import CHUNKS

CHUNK = 256
SEAL = 32  # bytes of the SHA-256
# At HAM10000's size a view of InceptionResNetV2 features takes 62 MB.
KEEP_VIEWS = 64


@contextmanager
def chunk_folder(name: Path = CHUNKS) -> Iterator[Path]:
    """Give a folder of chunks, locked: one process at a time computes what is in it, and others wait for it.

    It is the project's also where a copy of the project runs (`dvc exp run --queue` and `--temp`), so that no
    experiment computes what another one has.
    """
    folder = project_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends, even if it is killed
            except BlockingIOError:
                print(f"waiting for another run that works in {folder}", file=sys.stderr)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise DiskError(f"{folder} cannot be locked ({error.strerror}): move the project to a local disk") from None
        yield folder


class ViewChunks:
    """The chunks of one view."""

    def __init__(
        self, root: Path, key: str, image_keys: list[bytes], shape: tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> None:
        """Index the chunks in root/key; one that is damaged, or of another view, is deleted.

        Args:
            root: the folder of all views.
            key: of the view.
            image_keys: of the images that are wanted, by number.
            shape: of the feature of an image, (dim,), or of what else is kept of it.
            dtype: in which it is kept.
        """
        self._folder = root / key[:32]
        self._folder.mkdir(parents=True, exist_ok=True)
        os.utime(self._folder)  # see `prune`
        self._key = key
        self._record = np.dtype([("image", "V32"), ("feature", dtype, shape)])
        wanted = {image: number for number, image in enumerate(image_keys)}
        self._found: dict[int, tuple[Path, int]] = {}
        for path in sorted(self._folder.glob("*.chunk")):
            records = self._read_chunk(path)
            if records is None:
                path.unlink()
                continue
            for row, image in enumerate(records["image"].tolist()):
                number = wanted.get(image)
                if number is not None:
                    self._found[number] = (path, row)
        self._images = image_keys

    def __contains__(self, number: int) -> bool:
        return number in self._found

    @property
    def bytes_of_image(self) -> int:
        """How much one image takes."""
        return self._record.itemsize

    @property
    def bytes_missing(self) -> int:
        """How much the images that are not there yet will take."""
        return self._record.itemsize * (len(self._images) - len(self._found))

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return the feature of one image."""
        path, row = self._found[number]
        with path.open("rb", buffering=0) as file:
            size = self._record.itemsize
            content = os.pread(file.fileno(), size, SEAL + row * size)
        if len(content) != size:
            raise DataError(f"{path} was damaged while the stage ran: run dvc repro again")
        return np.frombuffer(content, self._record)["feature"][0]

    def add(self, numbers: list[int], features: NDArray[np.float32]) -> None:
        """Store the features, (len(numbers), ...), of images by their number."""
        records = np.empty(len(numbers), self._record)
        records["image"] = [self._images[number] for number in numbers]
        with np.errstate(over="ignore"):
            records["feature"] = features
        if not np.isfinite(records["feature"]).all():
            raise BackboneError(
                f"the backbone gives numbers that {self._record['feature'].base} cannot hold: check its weights; for "
                "fine-tuning set finetune.layers=all"
            )
        content = records.tobytes()
        path = self._folder / f"{hashlib.sha256(records['image'].tobytes()).hexdigest()[:32]}.chunk"
        with replacing(path) as partial:
            partial.write_bytes(self._seal(content) + content)
        self._found.update({number: (path, row) for row, number in enumerate(numbers)})

    def read(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Yield numbers of images, (n,), and their features, (n, dim), chunk by chunk."""
        places = pd.DataFrame.from_dict(self._found, orient="index", columns=["path", "row"])
        for path, group in places.groupby("path"):
            records = self._read_chunk(Path(str(path)))
            if records is None:
                raise DataError(f"{path} was damaged while the stage ran: run dvc repro again")
            yield group.index.to_numpy(), records["feature"][group["row"].to_numpy()]

    def _read_chunk(self, path: Path) -> NDArray[np.void] | None:
        """Return the records of a chunk, or None if it is damaged or was made for another view."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        seal, content = content[:SEAL], content[SEAL:]
        if seal != self._seal(content) or len(content) % self._record.itemsize:
            return None
        return np.frombuffer(content, self._record)

    def _seal(self, content: bytes) -> bytes:
        return hashlib.sha256(self._key.encode() + content).digest()


def prune(root: Path, keep: int = KEEP_VIEWS) -> None:
    """Delete all but the most recently used views, so that they do not grow without limit."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-keep]:
        shutil.rmtree(folder)
