"""Clinical variables of new images, as a user gives them, and what the trained head makes of them."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd

from dermoscopy.model.clinical import UNKNOWN, ClinicalEncoder, Variable
from dermoscopy.runtime.errors import DataError, first_few
from dermoscopy.runtime.params import Columns

VARIABLES: tuple[Variable, ...] = get_args(Variable)


def read_clinical(path: Path, files: Sequence[Path], columns: Columns) -> pd.DataFrame:
    """Return those of `age, sex, localization` that a table has, a row a file.

    Ages are years, NaN where unknown; the others are lower-case text, empty where unknown. A row of the table belongs
    to the file of its name, see `match_files`; where a file has no row, all is unknown.

    Args:
        path: a CSV file in a form that `label_tables` knows.
        files: images, which need not exist.
        columns: which column is what, where the names are not the usual ones.

    Raises:
        DataError: the table cannot be read or lacks columns, a value cannot be used, no row belongs to a file, or a
            row may belong to several.
    """
    # pandera, which checks tables, takes a quarter of a second to import, and most predictions have no table
    from dermoscopy.data.label_tables import read_table_of_images
    from dermoscopy.data.raw import match_files
    from dermoscopy.data.sources.directory import ListedFile
    from dermoscopy.data.table_forms import look_at

    table = look_at(path, columns)
    named = {ours: column for ours, column in table.named.items() if ours in ("image_id", *VARIABLES)}
    if "image_id" not in named or len(named) == 1:
        lacking = f"of {_and(VARIABLES)}" if "image_id" in named else "with the names of the images"
        raise DataError(
            f"{path} has no column {lacking} (its columns are {first_few(table.columns)}): name one image, age, sex or "
            "localization, or set data.columns"
        )
    rows = read_table_of_images(replace(table, named=named, classes=[])).set_index("file")
    paths = [os.path.abspath(file) for file in files]  # noqa: PTH100 - without "..", and links stay
    images = [ListedFile("image", name, 0, 0) for name in dict.fromkeys(paths)]
    row_of: dict[str, str] = {}
    for name, found in match_files(rows.index, images).items():
        if len(found) > 1:
            several = first_few([file.path for file in found], " or ")
            raise DataError(f"{path}: {name} may be {several}: name each with its folder, or predict one at a time")
        row_of |= {file.path: name for file in found}
    if not row_of:
        raise DataError(
            f"{path} names none of the images: it has {first_few(list(rows.index), shown=3)}, and the images are "
            f"{first_few([file.name for file in files], shown=3)}"
        )
    known = rows.reindex([row_of.get(name, "") for name in paths]).reset_index(drop=True)  # "" is no name
    return known.fillna(dict.fromkeys(("sex", "localization"), ""))


def remarks(encoder: ClinicalEncoder | None, known: pd.DataFrame) -> list[str]:
    """Return a line for each thing that the user may not expect of clinical variables.

    These are: the head uses a variable, and it is unknown; it never saw a value; it does not use what is given.

    Args:
        encoder: of the head; None where it uses no clinical variable.
        known: those of `age, sex, localization` that are given, a row an image, as `read_clinical` returns them.
    """
    used = [variable for variable in VARIABLES if encoder and getattr(encoder, variable) is not None]
    missing = {variable: _missing(known, variable) for variable in VARIABLES}
    lines = []
    if nowhere := [variable for variable in used if missing[variable].all()]:
        lines.append(f"{_are(nowhere)} unknown: the head was trained with {_them(nowhere)}")
    if some := [variable for variable in used if missing[variable].any() and variable not in nowhere]:
        counts = ", ".join(f"{variable} of {missing[variable].sum()}" for variable in some)
        lines.append(f"unknown for some of the {len(known)} images: {counts}")
    for variable in used:
        if variable == "age" or variable not in known:
            continue
        seen = getattr(encoder, variable).known
        if never := sorted(set(known[variable]) - {*seen, *UNKNOWN}):
            lines.append(
                f"{variable} {first_few(never)} counts as unknown, for the head was not trained with it; it knows "
                + ", ".join(seen)
            )
    if unused := [variable for variable in VARIABLES if variable not in used and not missing[variable].all()]:
        lines.append(f"{_are(unused)} not used: the head was trained without {_them(unused)} (train.clinical)")
    return lines


def _missing(known: pd.DataFrame, variable: Variable) -> "pd.Series[bool]":
    """Return of which images a variable is unknown."""
    if variable not in known:
        return pd.Series(True, known.index)
    return known[variable].isna() | known[variable].isin(UNKNOWN)


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _are(names: Sequence[str]) -> str:
    return f"{_and(names)} {'are' if len(names) > 1 else 'is'}"


def _them(names: Sequence[str]) -> str:
    return "them" if len(names) > 1 else "it"
