"""The raw data: labels and image files, as data/raw or the user's folder has them, and which file an image has."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from unicodedata import normalize

import pandas as pd

from dermoscopy.data.image_files import find_images
from dermoscopy.data.label_tables import (
    class_names,
    file_names,
    image_ids,
    read_labels,
    with_metadata,
)
from dermoscopy.data.listing import read_listing
from dermoscopy.data.matching import match_names
from dermoscopy.data.sources.directory import FOLDERS, ListedFile, folder_of, label_tables, listed, listed_name
from dermoscopy.data.storage import Location
from dermoscopy.data.table_forms import look_at_all
from dermoscopy.runtime.errors import DataError, first_few
from dermoscopy.runtime.params import Columns, Data
from dermoscopy.runtime.paths import RAW


def read_raw(data: Data) -> tuple[pd.DataFrame, list[ListedFile]]:
    """Return the labels, as `read_labels` does, that data/raw or the user's folder has, and the image files there."""
    if data.source == "directory":
        return read_folder(data, read_listing())
    labels = read_labels([RAW / "labels.csv"], Columns(), RAW / "labels.csv")
    return labels, listed("image", find_images(RAW / "images").files)


def read_folder(data: Data, files: Sequence[ListedFile]) -> tuple[pd.DataFrame, list[ListedFile]]:
    """Return the labels, as `read_labels` does, of a folder of images, and the image files.

    Raises:
        DataError: no table has labels, or a value cannot be used.
    """
    images = [file for file in files if file.kind == "image"]
    tables = [file.path for file in files if file.kind == "table"]
    if tables and data.labels != FOLDERS:
        places = [listed_name(place) for place in label_tables(data)]
        named = next((place for place in places if place in tables), places[0]) if places else None
        return read_labels(tables, data.columns, named), images
    folder = folder_of(data)
    labels = labels_by_folder([file.path for file in images], folder)
    return with_metadata(labels, *look_at_all(tables, data.columns), folder), images


def labels_by_folder(images: Sequence[str], folder: Location) -> pd.DataFrame:
    """Return `file, image_id, label` of images whose folder, the one right above them, is their class.

    An image in `folder` itself has no label.

    Raises:
        DataError: no image is in a subfolder.
    """
    top = PurePosixPath(listed_name(folder))
    below = [PurePosixPath(path).relative_to(top) for path in images]
    labels = pd.DataFrame(
        {
            "file": file_names(pd.Series([str(path) for path in below], dtype=str)),
            "label": class_names(pd.Series([path.parent.name for path in below], dtype=str)),
        }
    )
    if (labels["label"] == "").all():
        raise DataError(
            f"{folder} has no label table (.csv) at its top and no subfolder for each class: add one of them, or name "
            "a table by data.labels"
        )
    above = {path.parent.name: path.parent.parent for path in below if path.parent.name}
    if len(set(above.values())) > 1 and len(above) == len({path.parent for path in below if path.parent.name}):
        parents = first_few(sorted(str(parent) for parent in set(above.values())))
        print(
            f"warning: the folder right above an image is its class, {first_few(sorted(above))}, and not one above "
            f"that, {parents}",
            file=sys.stderr,
        )
    labels = labels.drop_duplicates("file")
    return labels.assign(image_id=image_ids(labels["file"]))


def match_files(wanted: Iterable[str], images: Iterable[ListedFile]) -> dict[str, list[ListedFile]]:
    """Return the files that each of `wanted` means, which is `file` of labels; see `match_names`."""
    return dict(match_names(wanted, images, _name))


def _name(image: ListedFile) -> str:
    return normalize("NFC", image.path).removesuffix(PurePosixPath(image.path).suffix)
