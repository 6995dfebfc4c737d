"""A folder of images, read in place: never copied, never linked, never changed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dermoscopy.data.image_files import SUFFIXES, find_images, require_plain_name
from dermoscopy.runtime.errors import SourceError
from dermoscopy.runtime.files import project_paths, user_path
from dermoscopy.runtime.params import Data

TABLES = (".csv", ".tsv")
FOLDERS = "folders"  # in data.labels: the name of an image's folder is its class, whatever tables there are


class ListedFile(NamedTuple):
    """A file that the pipeline may read, table or image: path (see `project_paths`), bytes, nanoseconds since 1970."""

    kind: str
    path: str
    bytes: int
    modified: int


class Listing(NamedTuple):
    """What a folder holds: tables, then images; and lines that say what was passed over."""

    files: list[ListedFile]
    warnings: list[str]


def list_files(data: Data) -> Listing:
    """Return the label tables at the top of the folder, and its images, in subfolders too; nothing is read.

    Where `data.labels` names the label table, it comes first, and the tables beside it belong to it as well.

    Raises:
        SourceError: the folder or the label table is missing, or the folder holds no image.
        DataError: the name of an image or a table is not plain UTF-8 text.
    """
    folder = user_path(data.directory or "")
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: name the folder of images")
    named = labels_path(data)
    if named is not None and not named.is_file():
        raise SourceError(f"{named} is not a file: name the label table, or none, to find it in the folder")
    found = find_images(folder)
    images = found.files
    if not images:
        raise SourceError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}): name the folder of images")
    tables = dict.fromkeys([*([named] if named else []), *_tables(folder), *(_tables(named.parent) if named else [])])
    for path in (*tables, *images):
        require_plain_name(path)
    return Listing([*listed("table", list(tables)), *listed("image", images)], found.warnings)


def labels_path(data: Data) -> Path | None:
    """Return the path of the label table that the params name, if they name one: from the project, or the folder."""
    if data.labels in (None, FOLDERS):
        return None
    of_project, of_folder = user_path(data.labels), user_path(data.directory or "") / data.labels
    return of_folder if of_folder.is_file() and not of_project.is_file() else of_project


def _tables(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in TABLES and not path.name.startswith(".") and path.is_file():
            yield path


def listed(kind: str, paths: Sequence[Path]) -> list[ListedFile]:
    """Return files as they are now, or where one is a link its target; of one that leads nowhere, the link."""
    status = (path.stat() if path.exists() else path.lstat() for path in paths)
    names = project_paths(paths)
    return [ListedFile(kind, name, s.st_size, s.st_mtime_ns) for name, s in zip(names, status, strict=True)]
