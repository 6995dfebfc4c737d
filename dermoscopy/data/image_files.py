"""Which files of a folder are images: links are followed, and what is no photograph is passed over."""

import re
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path, PurePath
from typing import NamedTuple

from dermoscopy.data.storage import Location, is_remote, require_plain_address
from dermoscopy.runtime.errors import DataError, SourceError, first_few
from dermoscopy.runtime.files import project_folder, user_path
from dermoscopy.runtime.paths import RAW

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
OTHERS = frozenset({".heic", ".heif", ".avif", ".gif", ".dcm", ".jp2", ".raw", ".dng"})
# Folders that file servers and archives add; hidden ones are passed over too.
LEFTOVERS = frozenset({"@eadir", "__macosx", "#recycle", "$recycle.bin"})
# What the ISIC challenges and HAM10000 call the outline of a lesion, and other pictures made from a photograph.
MASK = re.compile(r"_(segmentation|mask|superpixels|attribute_\w+)$", re.IGNORECASE)


class FoundImages(NamedTuple):
    """The images of a folder and its subfolders, in the order of their names; and what may be missed among them.

    Attributes:
        files: the images.
        loops: links that lead back to a folder that holds them.
        others: pictures in a format that is not read.
    """

    files: list[Path]
    loops: list[Path]
    others: list[Path]

    @property
    def warnings(self) -> list[str]:
        """A line for each kind of thing that was passed over."""
        lines = [f"{link} leads back to a folder that holds it: skipped" for link in self.loops]
        return lines + warnings_of_others([str(path) for path in self.others])


def find_images(folder: Path) -> FoundImages:
    """Return the image files of a folder and its subfolders, by their suffix; links are followed, but no loop is.

    Hidden files (`._x.jpg`), leftovers of systems (`@eaDir`) and masks (`x_segmentation.png`) are none.

    Raises:
        OSError: a folder cannot be read.
    """
    found = FoundImages([], [], [])
    _search(folder, frozenset({_identity(folder)}), found)
    return found


def is_image(name: str) -> bool:
    """Return whether a file of this name is taken for a photograph."""
    path = PurePath(name)
    return path.suffix.lower() in SUFFIXES and not name.startswith(".") and not MASK.search(path.stem)


def is_other_picture(name: str) -> bool:
    """Return whether a file of this name is a picture in a format that is not read."""
    return PurePath(name).suffix.lower() in OTHERS and not name.startswith(".")


def is_passed_over(folder: str) -> bool:
    """Return whether a folder of this name is hidden, or was left by a system."""
    return folder.startswith(".") or folder.lower() in LEFTOVERS


def warnings_of_others(paths: Sequence[str]) -> list[str]:
    """Return a line on pictures in a format that is not read, if there are any."""
    if not paths:
        return []
    return [f"pictures in a format that is not read: {first_few(paths)}: convert them to JPEG or PNG"]


def require_own_folder(directory: str) -> None:
    """Raise a SourceError if data.directory is, holds or lies in data/raw, which the download stage replaces.

    Of an address see `require_plain_address`.
    """
    if is_remote(directory):
        require_plain_address(directory)
        return
    folder, raw = user_path(directory), project_folder() / RAW
    if folder.is_relative_to(raw) or raw.is_relative_to(folder):
        raise SourceError(
            f"data.directory is {folder}, and the pipeline itself writes into {raw}: move the images to a folder of "
            "their own"
        )


def require_plain_name(path: Location) -> None:
    """Raise a DataError if no table could hold the path: it is not UTF-8, or has control characters."""
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", str(path)):  # bytes that are not UTF-8 become surrogates
        raise DataError(f"{path}: this name is not plain UTF-8 text: rename it")


def _search(folder: Path, parents: frozenset[tuple[int, int]], found: FoundImages) -> None:
    for path in sorted(folder.iterdir(), key=attrgetter("name")):  # comparing paths takes three times as long
        if path.is_dir():
            if is_passed_over(path.name):
                continue
            identity = _identity(path)
            if identity in parents:
                found.loops.append(path)
            else:
                _search(path, parents | {identity}, found)
        # no pipe; but a link that leads nowhere, which whoever reads it will name
        elif is_image(path.name) and (path.is_file() or not path.exists()):
            found.files.append(path)
        elif is_other_picture(path.name):
            found.others.append(path)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
