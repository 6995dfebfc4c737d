"""Which images are not independent of each other: those of one patient, or of one lesion."""

import pandas as pd

from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Split

# the widest first; every image is known as such
UNITS = {"patient": "patient_id", "lesion": "lesion_id", "image": "image_id"}


def known_unit(images: pd.DataFrame) -> str:
    """Return the widest unit that the images name: patient, lesion or image.

    Args:
        images: `image_id` and, where known, `lesion_id` and `patient_id`; empty where nobody knows.
    """
    return next(unit for unit, column in UNITS.items() if column in images and (images[column] != "").any())


def group_ids(images: pd.DataFrame) -> "pd.Series[str]":
    """Return for each image what it shares with those that it depends on: patient, else lesion, else itself."""
    groups = pd.Series("", images.index)
    for unit, column in UNITS.items():
        if column in images:
            groups = groups.mask((groups == "") & (images[column] != ""), unit + " " + images[column])
    return groups


def count_known(ids: "pd.Series[str]") -> int | None:
    """Return how many lesions or patients these are, or None where not one is known."""
    known = ids[ids != ""]
    return int(known.nunique()) if len(known) else None


def of_lesions(images: pd.DataFrame) -> str:
    """Return " of 12 lesions", or that lesions are unknown, to stand behind a number of images."""
    lesions = count_known(images["lesion_id"])
    return " (lesions unknown)" if lesions is None else f" of {lesions} lesion{'s' * (lesions != 1)}"


def unit_of(manifest: pd.DataFrame, split: Split) -> str:
    """Return what stays together, patient, lesion or image: what `split.group` says; auto is `known_unit`.

    Raises:
        DataError: the data know no such ids.
    """
    widest = known_unit(manifest)
    if split.group == "auto":
        return widest
    column = UNITS[split.group]
    if column not in manifest or (manifest[column] == "").all():
        raise DataError(
            f"split.group={split.group} needs to know which images are of one {split.group}, and the label table does "
            f"not say: name its column by data.columns.{split.group}, or set split.group={widest}"
        )
    return split.group
