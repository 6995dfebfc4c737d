"""What a CSV file has, by the names of its columns: those of this field's label tables, and those that params name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Any

import pandas as pd

from dermoscopy.data.storage import Location, open_file
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Columns

# The column of the label table that each of our columns comes from, by its name in lower case; of several the first.
NAMES = {
    # HAM10000; ISIC challenges to 2019; ISIC 2020; ISIC archive; PAD-UFES-20; BCN20000; Derm7pt
    "image_id": ["image_id", "image", "image_name", "isic_id", "img_id", "bcn_filename", "derm", "filename", "file"],
    "label": [
        *("dx", "diagnosis", "diagnostic", "diagnosis_3", "diagnosis_2", "diagnosis_1", "label", "class"),
        *("benign_malignant", "target"),
    ],
    "lesion_id": ["lesion_id", "case_num"],
    "patient_id": ["patient_id"],
    "dx_type": ["dx_type", "diagnosis_confirm_type"],
    "age": ["age", "age_approx"],
    "sex": ["sex", "gender"],
    "localization": ["localization", "anatom_site_general", "anatom_site_general_challenge", "region", "location"],
}
# ISIC 2020 is a challenge of two classes: the diagnosis of four fifths of its images is unknown.
NAMES_OF_ISIC_2020 = NAMES | {"label": ["benign_malignant", "target"]}
# Which of our columns each key of data.columns names.
OF_PARAM = {
    "image": "image_id",
    "label": "label",
    "lesion": "lesion_id",
    "patient": "patient_id",
    "age": "age",
    "sex": "sex",
    "localization": "localization",
}
# Columns beside the 0/1 columns of the classes, in the ground truth of ISIC 2019's test images.
NO_CLASSES = {"score_weight", "validation_weight"}
PEEK = 100  # rows that show whether columns are 0/1


@dataclass(frozen=True)
class LabelTable:
    """What a CSV file has, by its header.

    Attributes:
        path: of the file.
        separator: of its columns.
        blank: how many lines without anything come before the header.
        columns: their names.
        named: the column, as the file names it, for each of ours that it has.
        classes: its 0/1 columns, where the label is given by them.
    """

    path: Location
    separator: str
    blank: int
    columns: list[str]
    named: dict[str, str]
    classes: list[str]

    @property
    def has_labels(self) -> bool:
        """Whether it says which image is of which class."""
        return "image_id" in self.named and ("label" in self.named or bool(self.classes))

    @property
    def question(self) -> str:
        """What is not known of it that a label table must have, and how to say it: the end of an error."""
        columns = ", ".join(self.columns[:8]) + (", ..." if len(self.columns) > 8 else "")
        ours, key = ("image_id", "image") if "image_id" not in self.named else ("label", "label")
        usual = ", ".join(NAMES[ours][:5])
        classes = ", or by a 0/1 column for each class" if key == "label" else ""
        folders = "; where the folders of the images are their classes, set data.labels=folders"
        return (
            f"{self.path} has the columns {columns}: which of them has the {key}? Set data.columns.{key} to it (it is "
            f"known by the names {usual} and the like{classes}){folders}"
        )


def look_at_all(
    paths: Sequence[Location], columns: Columns, labels: Location | None = None
) -> tuple[list[LabelTable], list[str]]:
    """Return what some CSV files have, and of those that cannot be read a line that says why.

    Raises:
        DataError: that of the path `labels` cannot be read, or no file has a column that is named.
    """
    tables, unread = [], []
    for path in paths:
        try:
            tables.append(look_at(path, columns))
        except DataError as error:
            if path == labels:
                raise
            unread.append(str(error))
    require_columns(tables, columns)
    return tables, unread


def require_columns(tables: Sequence[LabelTable], columns: Columns) -> None:
    """Raise a DataError if a column that the params name is in none of the tables."""
    for key, column in columns.model_dump(exclude_none=True).items():
        if not any(column.lower() in map(str.lower, table.columns) for table in tables):
            there = "; ".join(f"{table.path} has {', '.join(table.columns[:20])}" for table in tables[:3])
            raise DataError(
                f"data.columns.{key} is {column}, and no table has this column: correct it, or set it to null ({there})"
            )


def look_at(path: Location, columns: Columns) -> LabelTable:
    """Return what a CSV file has, by its header and where needed its first rows; a DataError if it is no such file."""
    try:
        # utf-8-sig: spreadsheet programs write a byte order mark
        with open_file(path) as content, TextIOWrapper(content, encoding="utf-8-sig") as file:
            blank, header = next(((number, line) for number, line in enumerate(file) if line.strip()), (0, ""))
        separator = max(",;\t", key=re.sub(r'"[^"]*"', "", header).count)
        # the header as it stands, because pandas gives a second dx the name dx.1
        names = read_text(path, separator, header=None, nrows=1, skiprows=blank).iloc[0].str.strip().tolist()
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise unreadable(path, error) from None
    lower = [name.lower() for name in names]
    if repeated := next((name for name in names if name and lower.count(name.lower()) > 1), None):
        raise DataError(f"{path} has two columns of the name {repeated}: keep one")
    known = NAMES_OF_ISIC_2020 if {"image_name", "target"} <= set(lower) else NAMES
    wanted = {ours: list(of_table) for ours, of_table in known.items()}
    for key, column in columns.model_dump(exclude_none=True).items():
        wanted[OF_PARAM[key]].insert(0, column.lower())
    named = {}
    for ours, of_table in wanted.items():
        if column := next((column for column in of_table if column in lower), None):
            named[ours] = names[lower.index(column)]
    if columns.label is not None and columns.label.lower() not in lower:
        named.pop("label", None)  # the label is in another column, of another table
    classes = []
    if "image_id" in named and "label" not in named:
        # a column without a name numbers the rows
        others = [name for name in names if name and name not in named.values() and name.lower() not in NO_CLASSES]
        classes = others if _are_hot(path, separator, blank, others) else []
    return LabelTable(path, separator, blank, names, named, classes)


def _are_hot(path: Location, separator: str, blank: int, columns: list[str]) -> bool:
    """Return whether columns, two or more, are 0 or 1 in half of the first rows at least."""
    if len(columns) < 2:
        return False
    try:
        rows = read_text(path, separator, nrows=PEEK, skiprows=blank).rename(columns=str.strip)
    except ValueError:  # of the rows, which are read later, and refused there
        return False
    usual = rows[columns].apply(pd.to_numeric, errors="coerce").isin([0, 1]).all(axis="columns")
    return rows.empty or bool(usual.mean() >= 0.5)


def choose_label_table(tables: Sequence[LabelTable], unread: Sequence[str], labels: Location | None) -> LabelTable:
    """Return the table that has the labels, the one of the path `labels` if that is given.

    `unread` says why other files could not be looked at. A DataError if no table has labels, or several have.
    """
    if labels is not None:
        table = next((table for table in tables if table.path == labels), None)
        if table is None:
            raise DataError(f"the label table {labels} is not here: bring it back, or correct data.labels")
        if not table.has_labels:
            raise DataError(table.question)
        return table
    chosen = [table for table in tables if table.has_labels]
    if not chosen:
        raise DataError("no label table: " + "; ".join([*(table.question for table in tables), *unread]))
    if len(chosen) > 1:
        names = " and ".join(str(table.path) for table in chosen[:3])
        raise DataError(f"{names} name classes of images each: say by data.labels which is meant")
    return chosen[0]


def read_text(path: Location, separator: str, **options: Any) -> pd.DataFrame:
    """Return a table with each value as text, as it stands."""
    with open_file(path) as content:
        table: pd.DataFrame = pd.read_csv(
            content,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
            **options,
        )
    return table


def unreadable(path: Location, error: Exception) -> DataError:
    """Return the error for a file that is missing or no CSV in UTF-8."""
    if isinstance(error, OSError):
        return DataError(f"label table {path} cannot be read: {error.strerror}")
    return DataError(f"{path} cannot be read as CSV ({str(error).strip()}): save it as CSV in UTF-8")
