"""A folder of labelled images, read in place: never copied, never linked, never changed."""

from pathlib import Path

import pandas as pd

from dermoscopy.data.images import SUFFIXES, require_plain_name
from dermoscopy.data.label_tables import read_labels
from dermoscopy.runtime.errors import DataError, SourceError
from dermoscopy.runtime.files import user_path
from dermoscopy.runtime.params import Data


def fetch(data: Data, destination: Path, work: Path) -> None:
    """Write the folder's label table as labels.csv and the list of its images, in all subfolders, as files.csv.

    Sizes and times of the files stand in the list so that DVC sees a change when the stage runs again.

    Raises:
        SourceError: the folder or the label table is missing or not unique, or the folder holds no image.
        DataError: the name of an image is not plain UTF-8 text.
    """
    del work
    folder = user_path(data.directory or "")
    if not folder.is_dir():
        raise SourceError(f"data.directory is {folder}, which is not a folder: set it to the folder of images")
    table = user_path(data.labels) if data.labels else _find_labels(folder)
    if not table.is_file():
        raise SourceError(f"data.labels is {table}, which is not a file: set it to the label table")
    images = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())
    if not images:
        raise SourceError(f"data.directory {folder} holds no image ({', '.join(sorted(SUFFIXES))})")
    for path in images:
        require_plain_name(path)
    # of the target of a link; a dangling link is refused by the manifest stage
    status = [path.stat() if path.exists() else path.lstat() for path in images]
    (destination / "labels.csv").write_bytes(table.read_bytes())
    pd.DataFrame(
        {
            "path": [str(path) for path in images],
            "bytes": [s.st_size for s in status],
            "modified": [s.st_mtime_ns for s in status],
        }
    ).to_csv(destination / "files.csv", index=False)


def _find_labels(folder: Path) -> Path:
    """Return the one file at the top of the folder that reads as a label table."""
    tables = []
    for path in sorted(folder.glob("*.csv")):
        try:
            read_labels(path)
        except DataError:
            continue
        tables.append(path)
    if len(tables) != 1:
        found = "none" if not tables else ", ".join(path.name for path in tables)
        raise SourceError(f"one label table (.csv) is needed in {folder}, found: {found}; name it with data.labels")
    return tables[0]
