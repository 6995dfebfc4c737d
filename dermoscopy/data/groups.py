"""Which images are not independent of each other: those of one patient, or of one lesion."""

import pandas as pd

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
