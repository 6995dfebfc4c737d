"""Label tables: the two real ones, and what people make of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.label_tables import read_labels
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Columns
from tests.support.photographs import write_photographs


def read(folder: Path, text: str, encoding: str = "utf-8") -> pd.DataFrame:
    """Return the labels in a table with this text."""
    path = folder / "labels.csv"
    path.write_text(text, encoding=encoding)
    return read_labels([path], Columns(), path)


def message(folder: Path, text: str, encoding: str = "utf-8") -> str:
    """Return the error that reading a table with this text ends with; it names the table."""
    with pytest.raises(DataError) as error:
        read(folder, text, encoding)
    assert "labels.csv" in str(error.value)
    return str(error.value)


def pairs(labels: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(labels["image_id"], labels["label"], strict=True))


def test_the_ham10000_metadata_are_read_whole(ham10000_metadata: Path) -> None:
    labels = read_labels([ham10000_metadata], Columns())
    assert set(labels) == {"file", "image_id", "label", "lesion_id", "dx_type", "age", "sex", "localization"}
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
    assert set(labels) == {"file", "image_id", "label", "lesion_id", "dx_type", "age", "sex", "localization"}
    assert pairs(labels) == [("ISIC_1", "nv")]


def test_the_isic_ground_truth_is_read_whole(isic: Path) -> None:
    labels = read_labels([isic / "ISIC2018_Task3_Test_GroundTruth.csv"], Columns())
    assert len(labels) == labels["image_id"].nunique() == 755
    counts = {"nv": 453, "bkl": 109, "mel": 85, "bcc": 46, "akiec": 22, "df": 22, "vasc": 18}
    assert labels["label"].value_counts().to_dict() == counts
    assert (labels["lesion_id"] == "").all()
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


def test_text_that_looks_like_a_number_stays_text_and_a_missing_label_is_none(tmp_path: Path) -> None:
    labels = read(tmp_path, "image_id,dx,sex\n007,NA,NA\nnull,none,male\n1e3,nan,n/a\n2,1e3,-\n")
    assert pairs(labels) == [("007", ""), ("null", "none"), ("1e3", ""), ("2", "1e3")]
    assert labels["sex"].to_list() == ["", "male", "", ""]


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
        ("image_id,dx\nISIC_1,nv\nISIC_2,nv\n", ["", ""]),
        ("lesion_id,image_id,dx\nHAM_1,ISIC_1,nv\n,ISIC_2.jpg,nv\n", ["HAM_1", ""]),
        ("lesion_id,image_id,dx\n HAM_1 ,ISIC_1,nv\nUnknown,ISIC_2,nv\n", ["HAM_1", ""]),
    ],
    ids=["no column", "no value", "unknown"],
)
def test_a_lesion_that_is_not_named_is_unknown(tmp_path: Path, text: str, lesions: list[str]) -> None:
    assert read(tmp_path, text)["lesion_id"].to_list() == lesions


def test_an_unknown_age_is_missing_and_a_known_one_a_number(tmp_path: Path) -> None:
    labels = read(tmp_path, "image_id,dx,age\na,nv,\nb,nv,unknown\nc,nv,NaN\nd,nv,45\ne,nv,0.0\n")
    assert np.array_equal(labels["age"], [np.nan, np.nan, np.nan, 45, 0], equal_nan=True)


def test_ages_are_floats_even_where_all_are_known_and_whole(tmp_path: Path) -> None:
    assert read(tmp_path, "image_id,dx,age\na,nv,45\nb,nv,50\n")["age"].dtype == float


def test_an_age_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    text = message(tmp_path, "image_id,dx,age\na,nv,45\nb,nv,forty\n")
    assert "labels.csv, row 3, column age: 'forty' is not a number of years" in text


@pytest.mark.parametrize("row", ["0,0,0", "1,1,0", "0.5,0.5,0", "2,0,0", "-1,1,1", "yes,0,0", ",1,0"])
def test_a_row_without_exactly_one_1_is_refused(tmp_path: Path, row: str) -> None:
    text = message(tmp_path, f"image,MEL,NV,BCC\nISIC_1,0,1,0\nISIC_2,{row}\nISIC_3,0,0,1\n")
    assert "labels.csv, row 3: an image has a 1 under its class" in text
    assert f"has MEL {row.split(',')[0]!r}, NV" in text


@pytest.mark.parametrize(
    ("header", "key"),
    [("name,diagnosis", "image"), ("image_id,dignosis", "label"), ("image,MEL", "label"), ("dx,age", "image")],
    ids=lambda h: h,
)
def test_of_another_form_the_columns_are_named_and_the_param_that_says_which_is_meant(
    tmp_path: Path, header: str, key: str
) -> None:
    text = message(tmp_path, f"{header}\na,1\n")
    assert header.replace(",", ", ") in text
    assert f"Set data.columns.{key} to it" in text


@pytest.mark.parametrize("text", ["image_id,dx\n", "image,MEL,NV\n", "image_id,dx"])
def test_a_table_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    assert "no rows" in message(tmp_path, text)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    message(tmp_path, "")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_labels([tmp_path / "labels.csv"], Columns(), tmp_path / "labels.csv")


def test_an_image_in_place_of_the_table_is_refused(tmp_path: Path) -> None:
    (photograph,) = write_photographs(tmp_path, 1)
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_labels([photograph], Columns(), photograph)


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    message(tmp_path, "image_id,dx,localization\nISIC_1,nv,Rücken\n", "latin-1")


class TestForms:
    """The label tables of this field, by their headers and a row or two; each is understood without a param."""

    def read_tables(self, folder: Path, **texts: str) -> pd.DataFrame:
        """Return what tables know; each is written into a file of its name."""
        paths = []
        for name, text in texts.items():
            paths.append(folder / f"{name}.csv")
            paths[-1].write_text(text)
        return read_labels(paths, Columns())

    def test_isic_2018_and_its_lesion_groupings(self, tmp_path: Path) -> None:
        labels = self.read_tables(
            tmp_path,
            truth="image,MEL,NV\nISIC_1,0.0,1.0\nISIC_2,1.0,0.0\n",
            groupings="image,lesion_id,diagnosis_confirm_type\nISIC_2,HAM_7,histopathology\nISIC_1,HAM_7,consensus\n",
        )
        assert pairs(labels) == [("ISIC_1", "nv"), ("ISIC_2", "mel")]
        assert labels["lesion_id"].to_list() == ["HAM_7", "HAM_7"]
        assert labels["dx_type"].to_list() == ["consensus", "histopathology"]

    def test_isic_2019_and_its_metadata(self, tmp_path: Path) -> None:
        labels = self.read_tables(
            tmp_path,
            ISIC_2019_Training_GroundTruth="image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK\n"
            "ISIC_1,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0\nISIC_2,0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0\n",
            ISIC_2019_Training_Metadata="image,age_approx,anatom_site_general,lesion_id,sex\n"
            "ISIC_1,55.0,anterior torso,BCN_0003884,female\nISIC_2,,,,\n",
        )
        assert pairs(labels) == [("ISIC_1", "scc"), ("ISIC_2", "ak")]
        assert labels["lesion_id"].to_list() == ["BCN_0003884", ""]
        assert labels["localization"].to_list() == ["anterior torso", ""]
        assert np.array_equal(labels["age"], [55, np.nan], equal_nan=True)

    def test_isic_2019_test_images_have_weights_that_are_no_classes(self, tmp_path: Path) -> None:
        header = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK,score_weight,validation_weight\n"
        rows = "ISIC_1,0,1,0,0,0,0,0,0,0,1.0,0.0\nISIC_2,0,0,0,0,0,0,0,0,1,0.0,1.0\n"
        assert pairs(read(tmp_path, header + rows)) == [("ISIC_1", "nv"), ("ISIC_2", "unk")]

    def test_a_ground_truth_may_have_lesions(self, tmp_path: Path) -> None:
        labels = read(tmp_path, "image,MEL,NV,lesion_id\na,0,1,L1\nb,1,0,L1\n")
        assert pairs(labels) == [("a", "nv"), ("b", "mel")]
        assert labels["lesion_id"].to_list() == ["L1", "L1"]

    def test_isic_2020_is_a_challenge_of_two_classes(self, tmp_path: Path) -> None:
        header = (
            "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target\n"
        )
        rows = "ISIC_1,IP_7,male,45.0,head/neck,unknown,benign,0\nISIC_2,IP_7,male,45.0,torso,melanoma,malignant,1\n"
        labels = read(tmp_path, header + rows)
        assert pairs(labels) == [("ISIC_1", "benign"), ("ISIC_2", "malignant")]
        assert labels["patient_id"].to_list() == ["IP_7", "IP_7"]
        assert labels["localization"].to_list() == ["head/neck", "torso"]

    def test_the_isic_archive(self, tmp_path: Path) -> None:
        header = (
            "isic_id,attribution,copyright_license,age_approx,anatom_site_general,diagnosis_1,diagnosis_2,diagnosis_3,"
            "diagnosis_4,diagnosis_5,diagnosis_confirm_type,image_type,lesion_id,patient_id,sex\n"
        )
        rows = (
            'ISIC_1,A,CC-BY,60,head/neck,Malignant,Malignant melanocytic,"Melanoma, NOS",,,histopathology,dermoscopic,'
            "IL_1,IP_1,male\nISIC_2,A,CC-BY,30,,Benign,Benign melanocytic,Nevus,,,,dermoscopic,IL_2,IP_1,female\n"
        )
        labels = read(tmp_path, header + rows)
        assert pairs(labels) == [("ISIC_1", "melanoma, nos"), ("ISIC_2", "nevus")]
        assert labels[["lesion_id", "patient_id"]].to_numpy().tolist() == [["IL_1", "IP_1"], ["IL_2", "IP_1"]]

    def test_pad_ufes_20(self, tmp_path: Path) -> None:
        header = "patient_id,lesion_id,smoke,age,gender,region,diagnostic,itch,img_id,biopsed\n"
        labels = read(tmp_path, header + "PAT_1516,1765,,8,FEMALE,NECK,NEV,False,PAT_1516_1765_530.png,False\n")
        assert pairs(labels) == [("PAT_1516_1765_530", "nev")]
        row = labels.iloc[0]
        assert row[["patient_id", "lesion_id", "sex", "localization"]].to_list() == [
            "PAT_1516",
            "1765",
            "female",
            "neck",
        ]

    def test_bcn20000(self, tmp_path: Path) -> None:
        header = "bcn_filename,age_approx,anatom_site_general,diagnosis,lesion_id,capture_date,sex,split\n"
        labels = read(
            tmp_path, header + "BCN_0000000001.jpg,55.0,anterior torso,MEL,BCN_0003884,2012-05-16,male,train\n"
        )
        assert pairs(labels) == [("BCN_0000000001", "mel")]
        assert labels["lesion_id"].to_list() == ["BCN_0003884"]

    def test_derm7pt_names_the_dermoscopic_image_and_its_folder(self, tmp_path: Path) -> None:
        header = "case_num,diagnosis,seven_point_score,location,sex,management,clinic,derm,case_id,notes\n"
        labels = read(
            tmp_path, header + "1,basal cell carcinoma,0,abdomen,female,excision,NEL/NEL027.JPG,NEL/Nel026.jpg,,\n"
        )
        assert pairs(labels) == [("Nel026", "basal cell carcinoma")]
        assert labels["file"].to_list() == ["NEL/Nel026"]
        assert labels["lesion_id"].to_list() == ["1"]

    def test_two_classes_as_0_and_1(self, tmp_path: Path) -> None:
        assert pairs(read(tmp_path, "image,target\na,0\nb,1\n")) == [("a", "0"), ("b", "1")]

    def test_any_table_by_the_names_of_its_columns(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("foto;Befund;Fall;dx\n皮膚 1.jpg;Böses Muttermal,  groß;7;x\n")
        columns = Columns(image="foto", label="befund", lesion="Fall")
        labels = read_labels([path], columns)
        assert pairs(labels) == [("皮膚 1", "böses muttermal, groß")]
        assert labels["lesion_id"].to_list() == ["7"]

    def test_a_column_that_no_table_has_is_named_with_those_there_are(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("image,dx\na,nv\n")
        with pytest.raises(
            DataError, match=r"data\.columns\.lesion is case, and no table has this column: .* image, dx\)"
        ):
            read_labels([path], Columns(lesion="case"))

    def test_pixel_tables_are_read_no_further_than_their_header(self, tmp_path: Path) -> None:
        header = ",".join([*(f"pixel{number:04d}" for number in range(784)), "label"])
        (tmp_path / "hmnist_28_28_L.csv").write_bytes(header.encode() + b"\n\xff\xff not text at all\n")
        (tmp_path / "metadata.csv").write_text("image_id,dx\na,nv\n")
        labels = read_labels(sorted(tmp_path.glob("*.csv")), Columns())
        assert pairs(labels) == [("a", "nv")]

    def test_two_tables_with_labels_must_be_told_apart(self, tmp_path: Path) -> None:
        truth, metadata = "image,MEL,NV\na,1,0\n", "image_id,dx,lesion_id\na,nv,L\n"
        with pytest.raises(DataError, match=r"metadata\.csv and .*truth\.csv name classes .* data\.labels"):
            self.read_tables(tmp_path, metadata=metadata, truth=truth)
        labels = read_labels(sorted(tmp_path.glob("*.csv")), Columns(), tmp_path / "truth.csv")
        assert (pairs(labels), labels["lesion_id"].to_list()) == ([("a", "mel")], ["L"])

    def test_a_table_beside_the_labels_that_cannot_be_read_is_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "patients.csv").write_text("image,patient_id,Länge\na,P1,5\n", encoding="utf-16")
        (tmp_path / "labels.csv").write_text("image,dx\na,nv\n")
        labels = read_labels(sorted(tmp_path.glob("*.csv")), Columns())
        assert pairs(labels) == [("a", "nv")]
        err = capsys.readouterr().err
        assert err.startswith(f"warning: {tmp_path}/patients.csv cannot be read as CSV (")
        assert err.endswith("save it as CSV in UTF-8: it is not used\n")

    def test_tables_that_contradict_each_other_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            DataError, match=r"lesion_id of a is L1 in .*one\.csv and L2 in .*two\.csv: make them agree"
        ):
            self.read_tables(tmp_path, one="image,dx,lesion_id\na,nv,L1\n", two="image,lesion_id,age\na,L2,5\n")

    def test_images_are_joined_by_their_names_and_folders_each_for_itself(self, tmp_path: Path) -> None:
        labels = self.read_tables(
            tmp_path,
            labels="image,dx\nmel/1.jpg,mel\nnv/1.jpg,nv\nnv/2.jpg,nv\n3.jpg,nv\nx/4,nv\n",
            patients="image,patient_id\nimages/mel/1,P1\nimages/nv/1,P2\n2,P3\n3,P4\ny/4.png,P5\n",
        )
        assert labels["patient_id"].to_list() == ["P1", "P2", "P3", "P4", "P5"]

    def test_a_table_of_other_images_says_nothing_and_that_is_said(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        labels = self.read_tables(tmp_path, one="image,dx\na,nv\n", two="image,lesion_id,sex\nb,L2,male\n")
        assert set(labels) == {"file", "image_id", "label", "lesion_id"}
        assert labels["lesion_id"].to_list() == [""]
        assert f"{tmp_path}/two.csv names none of the images of {tmp_path}/one.csv" in capsys.readouterr().err


class TestLesionsAndPatients:
    """Ids as tables have them."""

    def test_what_programs_write_for_nothing_is_no_lesion_and_no_patient(self, tmp_path: Path) -> None:
        words = ["None", "NULL", "N/A", "NaN", "-", "unknown", ""]
        rows = "".join(f"{number},nv,{word},{word}\n" for number, word in enumerate(words))
        labels = read(tmp_path, f"image,dx,lesion_id,patient_id\nx,nv,L,P\n{rows}")
        assert labels["lesion_id"].to_list() == ["L", *[""] * 7]
        assert labels["patient_id"].to_list() == ["P", *[""] * 7]

    def test_lesions_that_are_numbered_anew_for_each_patient_are_told_apart(self, tmp_path: Path) -> None:
        labels = read(tmp_path, "image,dx,lesion_id,patient_id\na,nv,1,P1\nb,nv,1,P1\nc,nv,1,P2\nd,nv,,P2\n")
        assert labels["lesion_id"].to_list() == ["P1 1", "P1 1", "P2 1", ""]

    def test_a_lesion_has_its_patient_in_all_of_its_images(self, tmp_path: Path) -> None:
        labels = read(tmp_path, "image,dx,lesion_id,patient_id\na,nv,L1,P1\nb,nv,L1,\nc,nv,L2,\n")
        assert labels["patient_id"].to_list() == ["P1", "P1", ""]

    def test_without_any_patient_there_is_no_such_column(self, tmp_path: Path) -> None:
        assert "patient_id" not in read(tmp_path, "image,dx,patient_id\na,nv,\nb,nv,NA\n")


@pytest.mark.parametrize(
    "text",
    ["\n\nimage,dx\na,nv\n", 'image;"dx";"foo, bar, baz"\na;nv;"1,2,3"\n', "image\tdx\na\tnv\n"],
    ids=["blank lines", "quoted commas", "tabs"],
)
def test_the_header_is_found_and_its_separator(tmp_path: Path, text: str) -> None:
    assert pairs(read(tmp_path, text)) == [("a", "nv")]


def test_rows_are_counted_from_the_top_of_the_file(tmp_path: Path) -> None:
    assert "row 5, column image: 'a' is in an earlier row" in message(tmp_path, "\n\nimage,dx\na,nv\na,nv\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image_id,dx\na,nv\n,nv\n", "labels.csv, row 3, column image_id: '' is empty: name the image"),
        ("isic_id,dx\na,nv\n\na,mel\n", "labels.csv, row 4, column isic_id: 'a' is in an earlier row too: keep one"),
        ("image,dx,age\na,nv,45\nb,nv,130\n", "row 3, column age: '130.0' is not an age of 0 to 120 years"),
        ("image,dx\na,nv\nb,n\x07v\n", r"row 3, column dx: 'n\x07v' has control characters"),
        (
            "image,dx\na,nv\nb,nv,x\n",
            "labels.csv cannot be read as CSV (Error tokenizing data. C error: Expected 2 fields in line 3, saw 3)",
        ),
    ],
    ids=["no image", "twice", "age", "control", "long"],
)
def test_a_fault_is_named_by_file_row_column_value_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in message(tmp_path, text)


def test_rows_without_any_value_are_no_rows(tmp_path: Path) -> None:
    assert pairs(read(tmp_path, "image_id,dx,age\na,nv,5\n,,\n,,\n")) == [("a", "nv")]
