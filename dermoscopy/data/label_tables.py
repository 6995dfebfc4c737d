"""Label tables: the HAM10000 metadata and the ISIC challenge ground truth, read into one form."""

from pathlib import Path
from typing import Any

import pandas as pd

from dermoscopy.data.images import SUFFIXES
from dermoscopy.runtime.errors import DataError

# What tables write, in any case, for a value that nobody knows.
UNKNOWN = ["", "unknown", "nan", "na"]
CLINICAL = ["dx_type", "age", "sex", "localization"]


def read_labels(path: Path) -> pd.DataFrame:
    """Return the labels: `image_id`, `label`, `lesion_id` and the clinical columns that the table has.

    All columns are text (no value is NA) but `age`, float years with NaN where unknown. Labels are lower-case. Without
    a lesion id an image is its own lesion.

    Raises:
        DataError: the file is not CSV in UTF-8 or in neither form, holds no row, names a column twice, or a one-hot row
            has no or two ones.
    """
    try:
        # utf-8-sig: spreadsheet programs write a byte order mark
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = max(",;\t", key=header.count)
        # the header as it stands, because pandas gives a second dx the name dx.1
        names = _read_text(path, separator, header=None, nrows=1).iloc[0].str.strip()
        table = _read_text(path, separator)
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise DataError(f"label table {path} cannot be read as CSV: {error}") from None
    repeated = names[names.str.lower().duplicated() & (names != "")]
    if len(repeated):
        raise DataError(f"label table {path} has two columns of the name {repeated.iloc[0]}: keep one")
    table.columns = table.columns.str.strip()
    table = _without_extra_fields(table, path)
    if table.empty:
        raise DataError(f"label table {path} has no rows")
    if {"image_id", "dx"} <= set(table.columns):
        labels = _from_metadata(table, path)
    elif table.columns[0] == "image" and len(table.columns) > 2:
        labels = _from_ground_truth(table, path)
    else:
        raise DataError(
            f"label table {path} has the columns {', '.join(map(str, table.columns[:8]))}; it needs image_id and dx "
            "(HAM10000 metadata), or image and one 0/1 column for each class (ISIC ground truth)"
        )
    pattern = r"(?i)\.(?:" + "|".join(suffix[1:] for suffix in SUFFIXES) + ")$"
    # NFC as in the manifest stage: macOS writes the accents of file names as characters of their own
    labels["image_id"] = labels["image_id"].str.strip().str.replace(pattern, "", regex=True).str.normalize("NFC")
    labels["label"] = labels["label"].str.strip().str.lower()
    lesion = labels["lesion_id"].str.strip()
    labels["lesion_id"] = lesion.mask(lesion.str.lower().isin(UNKNOWN), labels["image_id"])
    return labels


def _read_text(path: Path, separator: str, **options: Any) -> pd.DataFrame:
    """Return a table with each value as text, as it stands."""
    table: pd.DataFrame = pd.read_csv(
        path,
        sep=separator,
        dtype=str,
        keep_default_na=False,
        encoding="utf-8-sig",
        skipinitialspace=True,
        **options,
    )
    return table


def _without_extra_fields(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return the table with each value under its column where rows end in more separators than the header.

    pandas takes the first fields of such rows for an index, which shifts all others.
    """
    if isinstance(table.index, pd.RangeIndex):
        return table
    fields = table.reset_index().fillna("")
    width = len(table.columns)
    if (fields.iloc[:, width:] != "").any(axis=None):
        raise DataError(f"label table {path} has rows with more values than its header has columns")
    return fields.iloc[:, :width].set_axis(table.columns, axis="columns")


def _from_metadata(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    labels = table.filter(["image_id", "dx", "lesion_id", *CLINICAL]).rename(columns={"dx": "label"})
    if "lesion_id" not in labels:
        labels["lesion_id"] = ""
    if "age" in labels:
        age = pd.to_numeric(labels["age"].replace({"unknown": ""}), errors="coerce")
        bad = labels["image_id"][age.isna() & ~labels["age"].str.strip().str.lower().isin(UNKNOWN)]
        if len(bad):
            raise DataError(
                f"label table {path}: age of {bad.iloc[0]} is {labels['age'][bad.index[0]]!r}, not a number"
            )
        labels["age"] = age.astype(float)
    return labels


def _from_ground_truth(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    classes = list(table.columns[1:])
    hot = table[classes].apply(pd.to_numeric, errors="coerce")
    wrong = ~hot.isin([0, 1]).all(axis="columns") | (hot.sum(axis="columns") != 1)
    if wrong.any():
        rows = table["image"][wrong]
        raise DataError(
            f"label table {path}: {len(rows)} rows do not have one 1 and otherwise 0 under {', '.join(classes)}, the "
            f"first is {rows.iloc[0]}"
        )
    return pd.DataFrame({"image_id": table["image"], "label": hot.idxmax(axis="columns"), "lesion_id": ""})
