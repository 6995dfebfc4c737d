"""A folder of images, read in place: never copied, never linked, never changed."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from dermoscopy.data.image_files import SUFFIXES, find_images, require_plain_name
from dermoscopy.runtime.errors import SourceError
from dermoscopy.runtime.files import user_path
from dermoscopy.runtime.params import Data

TABLES = (".csv", ".tsv")


class ListedFile(NamedTuple):
    """A file that the pipeline may read: a table or an image, absolute path, bytes, nanoseconds since 1970."""

    kind: str
    path: Path
    bytes: int
    modified: int


class Listing(NamedTuple):
    """What a folder holds: tables, then images; and the links that lead back to a parent, which are not followed."""

    files: list[ListedFile]
    loops: list[Path]


def is_there(data: Data) -> bool:
    """Return whether the folder is there, and not empty as that of a disk that is not mounted."""
    folder = user_path(data.directory or "")
    return folder.is_dir() and any(folder.iterdir())


def list_files(data: Data) -> Listing:
    """Return the label tables at the top of the folder, and its images, in subfolders too; nothing is read.

    Where `data.labels` names the label table, it comes first, and the tables beside it belong to it as well.

    Raises:
        SourceError: the folder or the label table is missing, or the folder holds no image.
        DataError: the name of an image is not plain UTF-8 text.
    """
    folder = user_path(data.directory or "")
    if not folder.is_dir():
        raise SourceError(f"data.directory is {folder}, which is not a folder: set it to the folder of images")
    named = labels_path(data)
    if named is not None and not named.is_file():
        raise SourceError(f"data.labels is {named}, which is not a file: set it to the label table")
    images, loops = find_images(folder)
    if not images:
        raise SourceError(f"data.directory {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    for path in images:
        require_plain_name(path)
    tables = dict.fromkeys([*([named] if named else []), *_tables(folder), *(_tables(named.parent) if named else [])])
    return Listing(
        [*map(listed, ["table"] * len(tables), tables), *map(listed, ["image"] * len(images), images)], loops
    )


def labels_path(data: Data) -> Path | None:
    """Return the path of the label table that the params name, if they name one."""
    return user_path(data.labels) if data.labels else None


def _tables(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in TABLES and not path.name.startswith(".") and path.is_file():
            yield path


def listed(kind: str, path: Path) -> ListedFile:
    """Return a file as it is now, or where it is a link its target."""
    # of the target of a link; a dangling link is refused by the manifest stage
    status = path.stat() if path.exists() else path.lstat()
    return ListedFile(kind, path, status.st_size, status.st_mtime_ns)
