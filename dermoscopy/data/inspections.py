"""What was read of each image file, kept for the next run: a file of the same size and time is not read again."""

import csv
import hashlib
from pathlib import Path
from typing import NamedTuple

from dermoscopy.data import images
from dermoscopy.data.images import decode, read_bytes
from dermoscopy.data.sources.directory import ListedFile
from dermoscopy.runtime.files import project_folder, project_path, replacing
from dermoscopy.runtime.paths import INSPECTIONS


class Inspection(NamedTuple):
    """Size in pixels and content (SHA-256, hexadecimal) of an image that can be decoded."""

    width: int
    height: int
    sha256: str


# Another way to decode may find fault with other images.
CODE = hashlib.sha256(Path(images.__file__).read_bytes()).hexdigest()[:16]


def inspect(file: ListedFile) -> Inspection:
    """Read and decode an image; a DataError says why it cannot be used."""
    content = read_bytes(file.path)
    height, width, _ = decode(content, file.path).shape
    return Inspection(width, height, hashlib.sha256(content).hexdigest())


class Inspections:
    """Inspections, of earlier runs and this one."""

    def __init__(self) -> None:
        """Read what an earlier run kept, here or, in a copy for an experiment, in the project; nothing if damaged."""
        self._known: dict[tuple[str, ...], Inspection] = {}
        self._used: dict[tuple[str, ...], Inspection] = {}
        path = INSPECTIONS if INSPECTIONS.exists() else project_folder() / INSPECTIONS
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                for *key, width, height, sha256 in csv.reader(stream):
                    self._known[tuple(key)] = Inspection(int(width), int(height), sha256)
        except (OSError, ValueError, csv.Error):
            self._known.clear()

    def __call__(self, file: ListedFile) -> Inspection:
        """Return what `inspect` does; threads may call this at the same time."""
        key = (CODE, project_path(file.path.absolute()).as_posix(), str(file.bytes), str(file.modified))
        if key not in self._known:
            self._known[key] = inspect(file)
        self._used[key] = self._known[key]
        return self._used[key]

    def keep(self) -> None:
        """Write the inspections that this run asked for."""
        with replacing(INSPECTIONS) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows((*key, *inspection) for key, inspection in sorted(self._used.items()))
