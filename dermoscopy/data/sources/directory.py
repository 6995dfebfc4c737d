"""A folder of images, on this machine or in a storage, read in place: never copied, never linked, never changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dermoscopy.data.image_files import (
    SUFFIXES,
    find_images,
    is_image,
    is_other_picture,
    is_passed_over,
    require_plain_name,
    warnings_of_others,
)
from dermoscopy.data.storage import Location, is_remote, require_plain_address, stored_file, stored_files
from dermoscopy.runtime.errors import SourceError, StorageError
from dermoscopy.runtime.files import project_folder, project_paths, user_path
from dermoscopy.runtime.params import Data

TABLES = (".csv", ".tsv")
FOLDERS = "folders"  # in data.labels: the name of an image's folder is its class, whatever tables there are


class ListedFile(NamedTuple):
    """A file that the pipeline may read.

    Attributes:
        kind: table or image.
        path: see `listed_name`.
        bytes: its size.
        modified: nanoseconds since 1970; of an address, a number that is another for each version of the file.
    """

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
        SourceError: the label table is missing, or the folder holds no image.
        StorageError: the folder is not there, or its storage cannot be read.
        DataError: the name of an image or a table is not plain UTF-8 text.
    """
    folder, places = folder_of(data), label_tables(data)
    tables, images, warnings = _search_storage(folder) if isinstance(folder, str) else _search_folder(folder)
    if not images:
        raise SourceError(f"{folder} holds no image ({', '.join(sorted(SUFFIXES))}): name the folder of images")
    if places:
        named = next(filter(None, map(_table_at, places)), None)
        if named is None:
            raise SourceError(f"{places[0]} is not a file: name the label table, or none, to find it in the folder")
        tables = list({table.path: table for table in (named, *tables, *_tables_beside(named))}.values())
    for file in (*tables, *images):
        require_plain_name(file.path)
    return Listing([*tables, *images], warnings)


def folder_of(data: Data) -> Location:
    """Return the address of the user's folder, a string without a slash at its end, or its absolute path."""
    directory = data.directory or ""
    return directory.rstrip("/") if is_remote(directory) else user_path(directory)


def label_tables(data: Data) -> list[Location]:
    """Return where the label table may be that the params name, the likeliest first; nothing if they name none.

    A path starts from the project, or from the folder.
    """
    if data.labels in (None, FOLDERS):
        return []
    if is_remote(data.labels):
        require_plain_address(data.labels)
        return [data.labels]
    folder = folder_of(data)
    return [user_path(data.labels), folder / data.labels if isinstance(folder, Path) else f"{folder}/{data.labels}"]


def listed_name(location: Location) -> str:
    """Return how the project's files name a file or folder of the user: see `project_paths`; an address as it is."""
    return location if isinstance(location, str) else project_paths([location])[0]


def listed(kind: str, paths: Sequence[Path]) -> list[ListedFile]:
    """Return files as they are now, or where one is a link its target; of one that leads nowhere, the link."""
    status = (path.stat() if path.exists() else path.lstat() for path in paths)
    names = project_paths(paths)
    return [ListedFile(kind, name, s.st_size, s.st_mtime_ns) for name, s in zip(names, status, strict=True)]


def _search_folder(folder: Path) -> tuple[list[ListedFile], list[ListedFile], list[str]]:
    """Return the tables at the top of a folder, its images, and what to warn of."""
    if not folder.exists():
        raise StorageError(f"{folder} is not there: bring it back, or name the folder of images")
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: name the folder of images")
    found = find_images(folder)
    return _tables(folder), listed("image", found.files), found.warnings


def _search_storage(address: str) -> tuple[list[ListedFile], list[ListedFile], list[str]]:
    """Return the tables at the top of a folder, its images, and what to warn of; all from one list."""
    tables, images, others = [], [], []
    for file in stored_files(address):
        *folders, name = file.address.removeprefix(f"{address}/").split("/")
        if any(map(is_passed_over, folders)):
            continue
        if is_image(name):
            images.append(ListedFile("image", *file))
        elif is_other_picture(name):
            others.append(file.address)
        elif not folders and _is_table(name):
            tables.append(ListedFile("table", *file))
    return tables, images, warnings_of_others(others)


def _table_at(location: Location) -> ListedFile | None:
    if isinstance(location, Path):
        return listed("table", [location])[0] if location.is_file() else None
    file = stored_file(location)
    return file and ListedFile("table", *file)


def _tables_beside(table: ListedFile) -> list[ListedFile]:
    if is_remote(table.path):
        files = stored_files(table.path.rpartition("/")[0], deep=False)
        return [ListedFile("table", *file) for file in files if _is_table(file.address.rpartition("/")[2])]
    return _tables((project_folder() / table.path).parent)


def _tables(folder: Path) -> list[ListedFile]:
    return listed("table", [path for path in sorted(folder.iterdir()) if _is_table(path.name) and path.is_file()])


def _is_table(name: str) -> bool:
    return name.lower().endswith(TABLES) and not name.startswith(".")
