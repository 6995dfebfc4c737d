"""The public datasets that are recognised, by the ids and the table of their images."""

import pandas as pd

HAM10000, ISIC_2018 = "HAM10000", "ISIC 2018"
CLASSES = frozenset({"akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"})
# ISIC_0024306 to ISIC_0034320: HAM10000, which is ISIC 2018's training part; to ISIC_0036064: its other parts.
# Tschandl, Rosendahl, Kittler 2018, doi:10.1038/sdata.2018.161, and the ground truth of ISIC 2018, Task 3.
FIRST, LAST_OF_HAM10000, LAST_OF_ISIC_2018 = 24_306, 34_320, 36_064


def dataset_of(labels: pd.DataFrame) -> str | None:
    """Return the name of the dataset that all images are of, or None.

    Images are HAM10000's by their ids, their classes and, where the table names lesions, the form of their ids.
    """
    number = labels["image_id"].str.extract(r"^ISIC_(\d{7})$")[0]
    lesions = labels["lesion_id"][labels["lesion_id"] != ""]
    if number.isna().any() or not CLASSES.issuperset(labels["label"]):
        return None
    numbers = number.astype(int)
    if numbers.min() < FIRST or not lesions.str.fullmatch(r"HAM_\d{7}").all():
        return None
    if numbers.max() <= LAST_OF_HAM10000:
        return HAM10000
    return ISIC_2018 if numbers.max() <= LAST_OF_ISIC_2018 else None
