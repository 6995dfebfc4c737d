"""Tables and JSON: what is written is what is read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.tables import read_table, write_json, write_table
from dermoscopy.runtime.errors import DataError


def test_every_float32_probability_comes_back_as_it_was(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tiny_to_one = random.integers(0, 0x3F800001, 20_000, dtype=np.uint32).view(np.float32)  # all bit patterns to 1.0
    values = np.concatenate([random.random(20_000, np.float32), tiny_to_one, np.array([0, 1], np.float32)])
    write_table(pd.DataFrame({"image_id": "a", "p_nv": values}), tmp_path / "table.csv")
    read = read_table(tmp_path / "table.csv")["p_nv"].to_numpy()
    assert read.dtype == np.float32
    assert np.array_equal(read, values)


def test_text_stays_text_whatever_it_looks_like(tmp_path: Path) -> None:
    words = ["007", "NA", "null", "nan", "None", "", "1e3", "true", "a,b", 'say "nv"', "Rücken"]
    write_table(pd.DataFrame({"image_id": words, "label": words, "localization": words}), tmp_path / "table.csv")
    table = read_table(tmp_path / "table.csv")
    assert all(table[column].to_list() == words for column in table)


def test_an_unknown_age_is_missing_and_sizes_are_whole_numbers(tmp_path: Path) -> None:
    written = pd.DataFrame({"image_id": ["a", "b"], "age": [np.nan, 45.0], "width": [600, 1], "height": [450, 2]})
    write_table(written, tmp_path / "table.csv")
    table = read_table(tmp_path / "table.csv")
    assert np.array_equal(table["age"], [np.nan, 45], equal_nan=True)
    assert table["width"].to_list() == [600, 1]
    assert table[["width", "height"]].dtypes.to_list() == [np.dtype(int)] * 2


def test_a_table_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"image_id": [], "reason": []}), tmp_path / "table.csv")
    assert list(read_table(tmp_path / "table.csv").columns) == ["image_id", "reason"]


def test_a_missing_table_is_named_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"table\.csv is missing: run dvc repro"):
        read_table(tmp_path / "table.csv")


@pytest.mark.parametrize(
    "content",
    [b"", b"image_id,width\na,wide\n", b"image_id,label\na,nv\nb,nv,1\n", b"image_id\n\xff\xfe\n"],
    ids=["empty", "no number", "ragged", "no text"],
)
def test_a_damaged_table_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"table\.csv cannot be read"):
        read_table(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"a": float("nan"), "b": float("inf"), "c": 0.5}, {"a": None, "b": None, "c": 0.5}),
        ({"a": {"b": {"c": -float("inf")}}}, {"a": {"b": {"c": None}}}),
        ({"a": [0.5, float("nan")]}, {"a": [0.5, None]}),
        ({"a": np.float64("nan"), "b": np.float64(0.5)}, {"a": None, "b": 0.5}),
        ({"a": None, "b": 3, "c": "nan"}, {"a": None, "b": 3, "c": "nan"}),
    ],
    ids=["values", "nested", "list", "numpy", "others"],
)
def test_json_has_null_for_what_is_not_finite(tmp_path: Path, content: dict[str, Any], expected: object) -> None:
    write_json(content, tmp_path / "content.json")
    text = (tmp_path / "content.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) == expected


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    write_json({"a": 1}, tmp_path / "content.json")
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "content.json")
    assert [path.name for path in tmp_path.iterdir()] == ["content.json"]
    assert json.loads((tmp_path / "content.json").read_text()) == {"a": 1}
