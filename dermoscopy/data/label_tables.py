"""Label tables: whatever names images and what is known of them, in the forms of this field, read into one.

A table is understood by the names of its columns (NAMES, or `data.columns` where they are others). One table has the
class of each image, in a column or as a 0/1 column for each class; others are joined to it on the image.
"""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pandas as pd
import pandera.pandas as pa

from dermoscopy.data.image_files import SUFFIXES
from dermoscopy.data.matching import match_names
from dermoscopy.data.storage import Location
from dermoscopy.data.table_forms import LabelTable, choose_label_table, look_at_all, read_text, unreadable
from dermoscopy.runtime.errors import DataError, first_few
from dermoscopy.runtime.params import Columns

# What programs write, in any case, for a value that is missing; and what people write for one that nobody knows.
MISSING = ["", "nan", "na", "n/a", "null", "-"]
UNKNOWN = [*MISSING, "unknown", "none"]
CLINICAL = ["dx_type", "age", "sex", "localization"]
_printable = pa.Check(lambda column: ~column.str.contains(r"[\x00-\x1f\x7f]"), error="has control characters")
_text = pa.Column(str, _printable, required=False)
TABLE_SCHEMA = pa.DataFrameSchema(
    {
        "file": pa.Column(
            str,
            [
                _printable,
                pa.Check(lambda column: column != "", error="is empty: name the image, or delete the row"),
                pa.Check(lambda column: ~column.duplicated(), error="is in an earlier row too: keep one of them"),
            ],
        ),
        "label": pa.Column(
            str,
            [_printable, pa.Check.str_length(max_value=100, error="is too long for the name of a class")],
            required=False,
        ),
        "lesion_id": _text,
        "patient_id": _text,
        "dx_type": _text,
        "age": pa.Column(
            float,
            pa.Check.in_range(0, 120, error="is not an age of 0 to 120 years: correct it, or leave it empty"),
            nullable=True,
            required=False,
        ),
        "sex": _text,
        "localization": _text,
    },
    strict=True,
)


def read_labels(paths: Sequence[Location], columns: Columns, labels: Location | None = None) -> pd.DataFrame:
    """Return `file`, `image_id`, `label`, `lesion_id` and, where the tables know them, `patient_id` and CLINICAL.

    All columns are text (no value is NA) but `age`, float years with NaN where unknown. Text is empty where nothing is
    known, also the label. Labels, sexes and places are lower-case. `file` is what the table has for the image's file,
    with folders, without suffix; see `image_ids`.

    Args:
        paths: CSV files; those that are no tables of images are not read beyond their header.
        columns: which column is what, where the names are not the usual ones.
        labels: the one of them that has the labels; None finds it.

    Raises:
        DataError: none or several of them have labels, one is not CSV in UTF-8, or a value cannot be used; the message
            names file, row and column.
    """
    tables, unread = look_at_all(paths, columns, labels)
    main = choose_label_table(tables, unread, labels)
    found = read_table_of_images(main)
    others = [table for table in tables if table is not main]
    return with_metadata(found.assign(image_id=image_ids(found["file"])), others, unread, main.path)


def with_metadata(
    labels: pd.DataFrame, tables: Sequence[LabelTable], unread: Sequence[str], path: Location
) -> pd.DataFrame:
    """Return labels with what other tables know of the same images; what cannot be read is said, and not used.

    Args:
        labels: `file, image_id, label, ...`.
        tables: the others, and `unread`, of which nothing is known: see `look_at_all`.
        unread: a line for each, that says why.
        path: where the labels come from.
    """
    for reason in unread:
        print(f"warning: {reason}: it is not used", file=sys.stderr)
    for other in tables:
        if "image_id" in other.named and len(other.named) > 1 + ("label" in other.named):
            labels = join(labels, read_table_of_images(other), path, other.path)
    if "lesion_id" not in labels:
        labels = labels.assign(lesion_id="")
    if "patient_id" in labels:
        labels = with_patients(labels)
    return labels.reset_index(drop=True)


def with_patients(labels: pd.DataFrame) -> pd.DataFrame:
    """Return the labels with consistent patients and lesions; without the column where no patient is known.

    Lesions that are numbered anew for each patient are told apart, and a lesion of which one image has a patient has
    that patient in all.
    """
    patient, lesion = labels["patient_id"], labels["lesion_id"]
    if (patient == "").all():
        return labels.drop(columns="patient_id")
    known = (patient != "") & (lesion != "")
    if patient[known].groupby(lesion[known]).nunique().max() > 1:
        return labels.assign(lesion_id=lesion.mask(known, patient + " " + lesion))
    of_lesion = patient[known].groupby(lesion[known]).first()
    return labels.assign(patient_id=patient.mask(patient == "", lesion.map(of_lesion).fillna("")))


def read_table_of_images(table: LabelTable) -> pd.DataFrame:
    """Return the columns of a table that are known, under our names, checked; the index is the number of the row."""
    path = table.path
    try:
        rows = read_text(path, table.separator, skiprows=table.blank, skip_blank_lines=False)
    except ValueError as error:
        raise unreadable(path, error) from None
    first = table.blank + 2  # the header is row 1, as spreadsheet programs count
    rows = _without_extra_fields(rows.rename(columns=str.strip), path, first)
    rows.index = pd.RangeIndex(first, len(rows) + first)
    rows = rows[(rows != "").any(axis="columns")]
    if rows.empty:
        raise DataError(f"{path} has no rows")
    others = [name for name in table.columns if name and name not in {*table.named.values(), *table.classes}]
    if others:
        print(f"note: columns of {path} that are not used: {first_few(others)}", file=sys.stderr)
    found = rows[list(table.named.values())].set_axis(list(table.named), axis="columns")
    if table.classes:
        found["label"] = _hot_class(rows, table)
    found = found.apply(lambda column: column.str.strip().str.normalize("NFC"))
    found = found.rename(columns={"image_id": "file"})
    found["file"] = file_names(found["file"])
    if "label" in found:
        found["label"] = class_names(found["label"])
    for name in found.columns.drop(["file", "age"], errors="ignore"):
        nothing = UNKNOWN if name in ("lesion_id", "patient_id") else MISSING
        found[name] = found[name].mask(found[name].str.lower().isin(nothing), "")
    for name in ("sex", "localization"):
        if name in found:
            found[name] = found[name].str.lower().map(sys.intern)
    if "age" in found:
        found["age"] = _ages(found["age"], path, table.named["age"])
    return check_values(found, path, table.named | {"file": table.named["image_id"]})


def file_names(written: "pd.Series[str]") -> "pd.Series[str]":
    """Return what a table has for the file of an image, with folders, without suffix, in NFC."""
    pattern = r"(?i)\.(?:" + "|".join(suffix[1:] for suffix in SUFFIXES) + ")$"
    # NFC, because macOS writes the accents of file names as characters of their own
    ids = written.str.strip().str.normalize("NFC").str.replace("\\", "/")
    return ids.str.replace(r"^(\.{0,2}/)+", "", regex=True).str.replace(pattern, "", regex=True)


def image_ids(files: "pd.Series[str]") -> "pd.Series[str]":
    """Return the id of each image: the name of its file without folders, or with them where others have the same name.

    So an image that is moved to the folder of another class keeps its id, and with it views and features.
    """
    name = files.str.rsplit("/", n=1).str[-1]
    return name.where(~name.duplicated(keep=False), files)


def class_names(written: "pd.Series[str]") -> "pd.Series[str]":
    """Return the names of classes: lower-case, in NFC, single blanks inside and none around."""
    names = written.str.normalize("NFC").str.split().str.join(" ").str.lower()
    return names.map(sys.intern)  # a million images share a few strings


def join(labels: pd.DataFrame, other: pd.DataFrame, path: Location, other_path: Location) -> pd.DataFrame:
    """Return the labels with what another table knows of the same images beside it; labels are taken from the first.

    Raises:
        DataError: both know an image's lesion or patient, and not the same.
    """
    ours = labels["file"]
    meant = {name: found[0] for name, found in match_names(other["file"], ours, str) if len(found) == 1}
    if not meant:
        print(f"warning: {other_path} names none of the images of {path}: it is not used", file=sys.stderr)
        return labels
    other = other[other["file"].isin(meant)]
    other = other.set_index(other["file"].map(meant))
    joined = labels.copy()
    for name in other.columns.drop(["file", "label"], errors="ignore"):
        more = ours.map(other[name]) if name == "age" else ours.map(other[name]).fillna("")
        if name not in joined:
            joined[name] = more
            continue
        known = joined[name].notna() & (joined[name] != "")
        different = known & (more != "") & (joined[name] != more)
        if name in ("lesion_id", "patient_id") and different.any():
            image = ours[different].iloc[0]
            raise DataError(
                f"{name} of {image} is {joined[name][different].iloc[0]} in {path} and "
                f"{more[different].iloc[0]} in {other_path}: make them agree"
            )
        joined[name] = joined[name].where(known, more)
    return joined


def check_values(table: pd.DataFrame, path: Location, named: Mapping[str, str] = MappingProxyType({})) -> pd.DataFrame:
    """Return the table if it fits TABLE_SCHEMA; a DataError names the first value that does not, and where it is.

    Args:
        table: columns under our names; the index is the number of the row in the file.
        path: of the file.
        named: the file's names of the columns, where they are others.
    """
    try:
        return TABLE_SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        case, count = error.failure_cases.iloc[0], len(error.failure_cases)
        where = f"{path}, row {case['index']}, column {named.get(case['column'], case['column'])}"
        raise DataError(f"{where}: {str(case['failure_case'])[:200]!r} {case['check']}{_more(count - 1)}") from None


def _without_extra_fields(table: pd.DataFrame, path: Location, first: int) -> pd.DataFrame:
    """Return the table with each value under its column where rows end in more separators than the header.

    pandas takes the first fields of such rows for an index, which shifts all others.
    """
    if isinstance(table.index, pd.RangeIndex):
        return table
    fields = table.reset_index().fillna("")
    width = len(table.columns)
    longer = (fields.iloc[:, width:] != "").any(axis="columns")
    if longer.any():
        row = int(longer.to_numpy().argmax()) + first
        raise DataError(f"{path}, row {row} has more values than the header has columns: correct it")
    return fields.iloc[:, :width].set_axis(table.columns, axis="columns")


def _hot_class(rows: pd.DataFrame, table: LabelTable) -> "pd.Series[str]":
    """Return the class of each row, the one column of `table.classes` that is 1."""
    hot = rows[table.classes].apply(pd.to_numeric, errors="coerce")
    wrong = ~hot.isin([0, 1]).all(axis="columns") | (hot.sum(axis="columns") != 1)
    if wrong.any():
        row = wrong.idxmax()
        values = ", ".join(f"{name} {rows.loc[row, name]!r}" for name in table.classes[:10])
        raise DataError(
            f"{table.path}, row {row}: an image has a 1 under its class and a 0 under the others, and this one has "
            f"{values}" + _more(int(wrong.sum()) - 1)
        )
    return hot.idxmax(axis="columns")


def _ages(written: "pd.Series[str]", path: Location, column: str) -> "pd.Series[float]":
    age = pd.to_numeric(written, errors="coerce")
    bad = written[age.isna() & ~written.str.lower().isin(UNKNOWN)]
    if len(bad):
        raise DataError(
            f"{path}, row {bad.index[0]}, column {column}: {bad.iloc[0]!r} is not a number of years: correct it, or "
            f"leave it empty{_more(len(bad) - 1)}"
        )
    return age.astype(float)


def _more(count: int) -> str:
    return f" (and {count} more)" if count else ""
