"""The tables that stages hand to each other, and the JSON and CSV files they publish."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.files import replacing

PARTS = ("train", "validation", "test")

# Nine significant digits give every float32 back.
FLOAT_FORMAT = "%.9g"


def read_table(path: Path, *needed: str) -> pd.DataFrame:
    """Return a table that an earlier stage wrote; text columns are str and never NA, probabilities float32.

    Args:
        path: the file.
        needed: columns that it must have.

    Raises:
        DataError: the file is missing, is not CSV in UTF-8, or lacks a column.
    """
    numbers = {"age": float, "width": int, "height": int}
    try:
        columns = pd.read_csv(path, nrows=0).columns
        types = {c: np.float32 if c.startswith("p_") else numbers.get(c, str) for c in columns}
        # an empty field is text, but an unknown age is a number that is missing
        table = pd.read_csv(path, dtype=types, keep_default_na=False, na_values={"age": [""]})
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run dvc repro, which makes it") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and run dvc repro") from None
    missing = [column for column in needed if column not in table]
    if missing or not isinstance(table.index, pd.RangeIndex):  # rows longer than the header: pandas makes an index
        fault = f"has no column {missing[0]}" if missing else "has rows with more values than its header has columns"
        raise DataError(f"{path} {fault}: delete it and run dvc repro")
    return table


def write_table(table: pd.DataFrame, path: Path, float_format: str = FLOAT_FORMAT) -> None:
    """Write a table as CSV, whole or not at all."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False, float_format=float_format, lineterminator="\n")


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON, whole or not at all; a float that is not finite becomes null."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that an earlier stage wrote; a DataError if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run dvc repro, which makes it") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read ({error}): delete it and run dvc repro") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object: delete it and run dvc repro")
    return content


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
