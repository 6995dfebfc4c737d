"""Clinical variables of new images: which file a row belongs to, and what is said of values the head cannot use."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.model.clinical_input import read_clinical, remarks
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Columns
from tests.support.clinical import make_encoder

ENCODER = make_encoder(age=(50, 15), sex=["female", "male"], localization=["back", "lower extremity"])
FILES = [Path("images/a.jpg"), Path("images/b.png"), Path("c.jpeg")]


def write(folder: Path, *lines: str) -> Path:
    """Write a table of these lines."""
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "table.csv"


@pytest.mark.parametrize(
    "lines",
    [
        ("image_id,dx,age,sex,localization", "c,nv,30,,back", "a,mel,50.5,Male,", "z,odd,1,male,ear"),
        ("isic_id;age_approx;sex;anatom_site_general", "a.JPG;50.5;male;NA", "c.jpg;30;;back"),
        ("image,MEL,NV,age,sex,location", "images/a,1,0,50.5,MALE,", "there/c,5,5,30, ,Back"),
    ],
)
def test_rows_belong_to_the_files_of_their_names_in_the_forms_of_label_tables(
    tmp_path: Path, lines: tuple[str, ...]
) -> None:
    known = read_clinical(write(tmp_path, *lines), FILES, Columns())
    assert sorted(known.columns) == ["age", "localization", "sex"]
    np.testing.assert_array_equal(known["age"], [50.5, np.nan, 30])
    assert known["sex"].tolist() == ["male", "", ""]
    assert known["localization"].tolist() == ["", "", "back"]
    assert ENCODER.encode(known).shape == (3, len(ENCODER.names))


def test_columns_of_other_names_are_those_of_the_params(tmp_path: Path) -> None:
    table = write(tmp_path, "photo,years", "a,50")
    known = read_clinical(table, FILES[:1], Columns(image="photo", age="years"))
    assert known.to_dict("records") == [{"age": 50}]


def test_folders_tell_files_of_one_name_apart(tmp_path: Path) -> None:
    files = [Path("left/a.jpg"), Path("right/a.jpg")]
    table = write(tmp_path, "image,sex", "right/a.jpg,male", "left/a.jpg,female")
    assert read_clinical(table, files, Columns())["sex"].tolist() == ["female", "male"]
    with pytest.raises(DataError, match=r"table.csv: a may be \S+left/a.jpg or \S+right/a.jpg: name each with its"):
        read_clinical(write(tmp_path, "image,sex", "a,male"), files, Columns())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("photo,age", "a,1"), "has no column with the names of the images .its columns are photo, age.: name one"),
        (("image,dx", "a,nv"), "has no column of age, sex and localization"),
        (("image,age", "a,fifty"), "row 2, column age: 'fifty' is not a number of years"),
        (("image,age", "a,121"), "row 2, column age: '?121.0'? is not an age of 0 to 120 years"),
        (("image,age", "x,1", "y,2"), "names none of the images: it has x, y, and the images are a.jpg, b.png, c.jpeg"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, lines: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        read_clinical(write(tmp_path, *lines), FILES, Columns())
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match=r"missing\.csv cannot be read"):
        read_clinical(tmp_path / "missing.csv", FILES, Columns())


def test_what_the_head_was_trained_with_and_nobody_knows_is_named() -> None:
    nothing = pd.DataFrame(index=range(2))
    assert remarks(ENCODER, nothing) == ["age, sex and localization are unknown: the head was trained with them"]
    assert remarks(ENCODER, pd.DataFrame({"age": [50.0], "sex": "unknown", "localization": "back"})) == [
        "sex is unknown: the head was trained with it"
    ]
    assert remarks(ENCODER, pd.DataFrame({"age": [50, np.nan], "sex": ["", "male"], "localization": "back"})) == [
        "unknown for some of the 2 images: age of 1, sex of 1"
    ]


def test_values_that_the_head_never_saw_are_named_with_those_it_knows() -> None:
    given = pd.DataFrame({"age": [50.0, 60.0], "sex": ["male", "other"], "localization": ["elbow", "ear"]})
    assert remarks(ENCODER, given) == [
        "sex other counts as unknown, for the head was not trained with it; it knows female, male",
        "localization ear, elbow counts as unknown, for the head was not trained with it; it knows back, lower "
        "extremity",
    ]


def test_what_the_head_does_not_use_is_named() -> None:
    given = pd.DataFrame({"age": [50.0], "sex": "male", "localization": ""})
    assert remarks(None, given) == ["age and sex are not used: the head was trained without them (train.clinical)"]
    assert remarks(make_encoder(age=(50, 15)), given) == [
        "sex is not used: the head was trained without it (train.clinical)"
    ]
    assert remarks(None, pd.DataFrame(index=range(1))) == []
    complete = pd.DataFrame({"age": [50.0], "sex": "male", "localization": "back"})
    assert remarks(ENCODER, complete) == []
