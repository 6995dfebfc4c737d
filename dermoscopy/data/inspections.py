"""What was read of each image file, kept for the next run: a file of the same size and time is not read again."""

import csv
import hashlib
from pathlib import Path
from typing import NamedTuple

from dermoscopy.data import images
from dermoscopy.data.images import decode, read_bytes
from dermoscopy.data.sources.directory import ListedFile
from dermoscopy.runtime.files import located, project_folder, replacing
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
    path = located(file.path)
    content = read_bytes(path)
    height, width, _ = decode(content, path).shape
    return Inspection(width, height, hashlib.sha256(content).hexdigest())


class Inspections:
    """Inspections by path, of earlier runs and this one."""

    def __init__(self) -> None:
        """Read what an earlier run kept, here or, in a copy for an experiment, in the project; nothing if damaged."""
        self._known: dict[str, tuple[tuple[str, ...], Inspection]] = {}
        path = INSPECTIONS if INSPECTIONS.exists() else project_folder() / INSPECTIONS
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                for name, *state, width, height, sha256 in csv.reader(stream):
                    self._known[name] = (tuple(state), Inspection(int(width), int(height), sha256))
        except (OSError, ValueError, csv.Error):
            self._known.clear()

    def __call__(self, file: ListedFile) -> Inspection:
        """Return what `inspect` does; threads may call this at the same time."""
        state = (CODE, str(file.bytes), str(file.modified))
        known, inspection = self._known.get(file.path, (None, None))
        if inspection is None or known != state:
            inspection = inspect(file)
            self._known[file.path] = (state, inspection)
        return inspection

    def keep(self) -> None:
        """Write all inspections, the last of each path."""
        with replacing(INSPECTIONS) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerows((name, *state, *inspection) for name, (state, inspection) in sorted(self._known.items()))
