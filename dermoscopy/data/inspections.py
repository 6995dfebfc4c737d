"""What was read of each image file, kept for the next run: one that is listed as before is not read again."""

import csv
import hashlib
import os
import sys
from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple

from dermoscopy.data import images
from dermoscopy.data.images import decode
from dermoscopy.data.sources.directory import ListedFile
from dermoscopy.data.storage import read_bytes
from dermoscopy.runtime.files import project_folder, replacing
from dermoscopy.runtime.paths import INSPECTIONS


class Inspection(NamedTuple):
    """Size in pixels and content (SHA-256, hexadecimal) of an image that can be decoded."""

    width: int
    height: int
    sha256: str


# Another way to decode may find fault with other images.
CODE = hashlib.sha256(Path(images.__file__).read_bytes()).hexdigest()[:16]
# More threads than this may read, but pixels take a hundred times the memory of a file.
_decoding = BoundedSemaphore(os.cpu_count() or 1)


def inspect(file: ListedFile) -> Inspection:
    """Read and decode an image; a DataError says why it cannot be used, a StorageError why its storage cannot."""
    content = read_bytes(file.path)
    with _decoding:
        height, width, _ = decode(content, file.path).shape
    return Inspection(width, height, hashlib.sha256(content).hexdigest())


class Inspections:
    """Inspections by path, of earlier runs and this one."""

    def __init__(self) -> None:
        """Read what an earlier run kept, here or, in a copy for an experiment, in the project; nothing if damaged."""
        self._known: dict[str, tuple[str, int, int, int, int, str]] = {}
        path = INSPECTIONS if INSPECTIONS.exists() else project_folder() / INSPECTIONS
        try:
            with path.open(encoding="utf-8", newline="") as stream:
                for name, code, size, modified, width, height, sha256 in csv.reader(stream):
                    state = (sys.intern(code), int(size), int(modified))
                    self._known[name] = (*state, int(width), int(height), sha256)
        except (OSError, ValueError, csv.Error):
            self._known.clear()

    def __call__(self, file: ListedFile) -> Inspection:
        """Return what `inspect` does; threads may call this at the same time."""
        state = (CODE, file.bytes, file.modified)
        known = self._known.get(file.path)
        if known is None or known[:3] != state:
            known = self._known[file.path] = (*state, *inspect(file))
        return Inspection(*known[3:])

    def keep(self) -> None:
        """Write all inspections, the last of each path."""
        with replacing(INSPECTIONS) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerows((name, *self._known[name]) for name in sorted(self._known))
