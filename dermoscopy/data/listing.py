"""data/listing.csv: what the user's folder holds, by name, size and version."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dermoscopy.data.sources.directory import ListedFile, listed_name
from dermoscopy.data.storage import Location
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.files import project_folder, replacing
from dermoscopy.runtime.paths import LISTING


def write_listing(files: Sequence[ListedFile]) -> None:
    """Write `kind, path, bytes, modified` of some files."""
    with replacing(LISTING) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(ListedFile._fields)
        rows.writerows(files)


def read_listing(path: Path = LISTING) -> list[ListedFile]:
    """Return the files that the listing stage found, in its order; a DataError if it cannot be read."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [
                ListedFile(sys.intern(row["kind"]), row["path"], int(row["bytes"]), int(row["modified"]))
                for row in csv.DictReader(stream)
            ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and run dvc repro") from None


def earlier_listing(folder: Location) -> list[ListedFile]:
    """Return what was listed of a folder before, here or, in a copy for an experiment, in the project; [] if nothing.

    The listing stage keeps its output, so that where the images are not, in a clone for instance, all stages run that
    need none.
    """
    for path in (LISTING, project_folder() / LISTING):
        if path.exists():
            files, top = read_listing(path), PurePosixPath(listed_name(folder))
            images = [PurePosixPath(file.path) for file in files if file.kind == "image"]
            return files if images and all(image.is_relative_to(top) for image in images) else []
    return []
