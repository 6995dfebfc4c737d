"""Label tables: the two real ones, and what people make of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.label_tables import read_labels
from dermoscopy.runtime.errors import DataError
from tests.support.photographs import write_photographs


def read(folder: Path, text: str, encoding: str = "utf-8") -> pd.DataFrame:
    """Return the labels in a table with this text."""
    path = folder / "labels.csv"
    path.write_text(text, encoding=encoding)
    return read_labels(path)


def message(folder: Path, text: str, encoding: str = "utf-8") -> str:
    """Return the error that reading a table with this text ends with; it names the table."""
    with pytest.raises(DataError) as error:
        read(folder, text, encoding)
    assert "labels.csv" in str(error.value)
    return str(error.value)


def pairs(labels: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(labels["image_id"], labels["label"], strict=True))


def test_the_ham10000_metadata_are_read_whole(ham10000_metadata: Path) -> None:
    labels = read_labels(ham10000_metadata)
    assert set(labels) == {"image_id", "label", "lesion_id", "dx_type", "age", "sex", "localization"}
    assert len(labels) == 10_015
    assert labels["image_id"].nunique() == 10_015
    assert labels["lesion_id"].nunique() == 7_470
    assert labels["age"].dtype == float
    assert labels["age"].isna().sum() == 57
    assert not labels.drop(columns="age").isna().any(axis=None)
    counts = {"nv": 6705, "mel": 1113, "bkl": 1099, "bcc": 514, "akiec": 327, "vasc": 142, "df": 115}
    assert labels["label"].value_counts().to_dict() == counts
    first = labels.iloc[0]
    assert first[["image_id", "label", "lesion_id", "sex"]].to_list() == ["ISIC_0027419", "bkl", "HAM_0000118", "male"]
    assert first["age"] == 80


def test_the_metadata_may_have_a_dataset_column(tmp_path: Path) -> None:
    header = "lesion_id,image_id,dx,dx_type,age,sex,localization,dataset\n"
    labels = read(tmp_path, header + "HAM_1,ISIC_1,nv,histo,45.0,female,back,vidir_modern\n")
    assert set(labels) == {"image_id", "label", "lesion_id", "dx_type", "age", "sex", "localization"}
    assert pairs(labels) == [("ISIC_1", "nv")]


def test_the_isic_ground_truth_is_read_whole(isic: Path) -> None:
    labels = read_labels(isic / "ISIC2018_Task3_Test_GroundTruth.csv")
    assert len(labels) == labels["image_id"].nunique() == 755
    counts = {"nv": 453, "bkl": 109, "mel": 85, "bcc": 46, "akiec": 22, "df": 22, "vasc": 18}
    assert labels["label"].value_counts().to_dict() == counts
    assert (labels["lesion_id"] == labels["image_id"]).all()
    assert pairs(labels)[:2] == [("ISIC_0034528", "nv"), ("ISIC_0034530", "nv")]


def test_the_ground_truth_of_2019_has_other_classes(tmp_path: Path) -> None:
    header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
    rows = "ISIC_1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\nISIC_2,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n"
    assert pairs(read(tmp_path, header + rows)) == [("ISIC_1", "scc"), ("ISIC_2", "ak")]


@pytest.mark.parametrize("header", ["image_id,dx\n{},nv\n", "image,NV,MEL\n{},1,0\n"], ids=["metadata", "ground truth"])
@pytest.mark.parametrize("written", ["ISIC_1", "ISIC_1.jpg", "ISIC_1.JPG", "ISIC_1.jpeg", "ISIC_1.png", " ISIC_1 "])
def test_an_image_may_be_named_with_its_suffix(tmp_path: Path, header: str, written: str) -> None:
    assert pairs(read(tmp_path, header.format(written))) == [("ISIC_1", "nv")]


def test_dots_inside_a_name_stay(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "image_id,dx\nscan.2.b,nv\n")) == [("scan.2.b", "nv")]


def test_labels_become_lower_case(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "image_id,dx\nISIC_1,NV\nISIC_2, Mel \n")) == [("ISIC_1", "nv"), ("ISIC_2", "mel")]


def test_text_that_looks_like_a_missing_value_or_a_number_stays_text(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "image_id,dx\n007,na\nnull,none\n1e3,nan\n")) == [
        ("007", "na"),
        ("null", "none"),
        ("1e3", "nan"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
def test_spreadsheet_programs_may_have_written_the_table(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    text = f"image_id{separator} dx{end}ISIC_1{separator} nv{end}"
    assert pairs(read(tmp_path, text, encoding)) == [("ISIC_1", "nv")]


@pytest.mark.filterwarnings("error::pandas.errors.ParserWarning")  # which a user would read, and not understand
def test_a_separator_at_the_end_of_each_row_shifts_no_column(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "image_id,dx\nISIC_1,nv,\nISIC_2,mel,\n")) == [("ISIC_1", "nv"), ("ISIC_2", "mel")]


@pytest.mark.filterwarnings("error::pandas.errors.ParserWarning")
@pytest.mark.parametrize("rows", ["ISIC_1,nv,mel\nISIC_2,nv,mel\n", "ISIC_1,nv\nISIC_2,nv,mel\n"], ids=["all", "one"])
def test_rows_with_more_values_than_columns_are_refused(tmp_path: Path, rows: str) -> None:
    message(tmp_path, f"image_id,dx\n{rows}")


@pytest.mark.parametrize(
    ("text", "lesions"),
    [
        ("image_id,dx\nISIC_1,nv\nISIC_2,nv\n", ["ISIC_1", "ISIC_2"]),
        ("lesion_id,image_id,dx\nHAM_1,ISIC_1,nv\n,ISIC_2.jpg,nv\n", ["HAM_1", "ISIC_2"]),
        ("lesion_id,image_id,dx\n HAM_1 ,ISIC_1,nv\n  ,ISIC_2,nv\n", ["HAM_1", "ISIC_2"]),
    ],
    ids=["no column", "no value", "spaces"],
)
def test_without_a_lesion_id_an_image_is_its_own_lesion(tmp_path: Path, text: str, lesions: list[str]) -> None:
    assert read(tmp_path, text)["lesion_id"].to_list() == lesions


def test_an_unknown_age_is_missing_and_a_known_one_a_number(tmp_path: Path) -> None:
    labels = read(tmp_path, "image_id,dx,age\na,nv,\nb,nv,unknown\nc,nv,NaN\nd,nv,45\ne,nv,0.0\n")
    assert np.array_equal(labels["age"], [np.nan, np.nan, np.nan, 45, 0], equal_nan=True)


def test_ages_are_floats_even_where_all_are_known_and_whole(tmp_path: Path) -> None:
    assert read(tmp_path, "image_id,dx,age\na,nv,45\nb,nv,50\n")["age"].dtype == float


def test_an_age_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    assert "age of b is 'forty'" in message(tmp_path, "image_id,dx,age\na,nv,45\nb,nv,forty\n")


@pytest.mark.parametrize("row", ["0,0,0", "1,1,0", "0.5,0.5,0", "2,0,0", "-1,1,1", "yes,0,0", ",1,0"])
def test_a_row_without_exactly_one_1_is_refused(tmp_path: Path, row: str) -> None:
    text = message(tmp_path, f"image,MEL,NV,BCC\nISIC_1,0,1,0\nISIC_2,{row}\nISIC_3,0,0,1\n")
    assert "1 rows do not have one 1 and otherwise 0 under MEL, NV, BCC" in text
    assert "ISIC_2" in text


@pytest.mark.parametrize(
    "header", ["name,diagnosis", "image_id,label", "image,MEL", "dx,age", "IMAGE_ID,DX"], ids=lambda h: h
)
def test_another_form_is_refused_with_its_columns_and_the_known_forms(tmp_path: Path, header: str) -> None:
    text = message(tmp_path, f"{header}\na,1\n")
    assert header.replace(",", ", ") in text
    assert "image_id and dx" in text
    assert "ISIC ground truth" in text


@pytest.mark.parametrize("text", ["image_id,dx\n", "image,MEL,NV\n", "image_id,dx"])
def test_a_table_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    assert "no rows" in message(tmp_path, text)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    message(tmp_path, "")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_labels(tmp_path / "labels.csv")


def test_an_image_in_place_of_the_table_is_refused(tmp_path: Path) -> None:
    (photograph,) = write_photographs(tmp_path, 1)
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_labels(photograph)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    message(tmp_path, "image_id,dx,localization\nISIC_1,nv,Rücken\n", "latin-1")
