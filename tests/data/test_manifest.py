"""The manifest stage: what it writes about images, and what it says about bad ones."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from dermoscopy.data.tables import read_table
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import INSPECTIONS
from stages import listing, manifest
from tests.support.params_file import write_params
from tests.support.photographs import write_photographs

METADATA = "lesion_id,image_id,dx,dx_type,age,sex,localization\n"
OUTPUTS = ["data/manifest.csv", "data/rejected.csv", "metrics/data.json", "plots/class_distribution.csv"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight drawn photographs, 600 x 450."""
    return write_photographs(tmp_path_factory.mktemp("photographs"), 8)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, in which this process runs."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_params(folder, {})
    return folder


@pytest.fixture
def raw(project: Path, photographs: list[Path]) -> Path:
    """data/raw as the download stage leaves it: eight images of six lesions, two of them mel, all others nv."""
    folder = project / "data/raw"
    (folder / "images").mkdir(parents=True)
    for photograph in photographs:
        shutil.copy(photograph, folder / "images")
    rows = [
        f"HAM_{min(number, 5)},{photograph.stem},{'mel' if number < 2 else 'nv'},histo,{40 + number}.0,female,back\n"
        for number, photograph in enumerate(photographs)
    ]
    (folder / "labels.csv").write_text(METADATA + "".join(reversed(rows)))
    return folder


def run_manifest(changes: dict[str, Any] | None = None) -> pd.DataFrame:
    """Run the stage in the current folder, with some of the data params changed, and return data/manifest.csv."""
    write_params(Path(), {"data": changes or {}})
    manifest.main(**sections_of(manifest.main))
    return read_table(Path("data/manifest.csv"))


def written() -> list[str]:
    """Return what of the stage's outputs, or beside them, is there."""
    files = [path for name in ("data", "metrics", "plots") for path in Path(name).rglob("*") if path.is_file()]
    outside = [path for path in files if Path("data/raw") not in path.parents and path != INSPECTIONS]
    return sorted(path.as_posix() for path in outside)


def test_a_row_says_what_and_where_an_image_is(raw: Path, photographs: list[Path]) -> None:
    table = run_manifest()
    assert list(table.columns) == [
        *("image_id", "path", "label", "lesion_id", "width", "height", "sha256"),
        *("dx_type", "age", "sex", "localization"),
    ]
    row = table.iloc[6]
    assert row["image_id"] == photographs[6].stem
    assert row["path"] == f"data/raw/images/{photographs[6].name}"
    assert Path(row["path"]).read_bytes() == photographs[6].read_bytes()
    assert row[["label", "lesion_id"]].to_list() == ["nv", "HAM_5"]
    assert row["sha256"] == hashlib.sha256(photographs[6].read_bytes()).hexdigest()
    assert (row["width"], row["height"]) == Image.open(photographs[6]).size == (600, 450)
    assert row[["dx_type", "age", "sex", "localization"]].to_list() == ["histo", 46, "female", "back"]


def test_rows_are_sorted_by_image_id_and_there_is_one_for_each_labelled_image(
    raw: Path, photographs: list[Path]
) -> None:
    assert run_manifest()["image_id"].to_list() == [photograph.stem for photograph in photographs]


def test_the_ground_truth_form_gives_the_columns_that_are_known(raw: Path, photographs: list[Path]) -> None:
    rows = [f"{photograph.stem},{number % 2}.0,{1 - number % 2}.0\n" for number, photograph in enumerate(photographs)]
    (raw / "labels.csv").write_text("image,MEL,NV\n" + "".join(rows))
    table = run_manifest()
    assert list(table.columns) == ["image_id", "path", "label", "lesion_id", "width", "height", "sha256"]
    assert table["image_id"].to_list() == [photograph.stem for photograph in photographs]
    assert table["label"].to_list() == ["nv", "mel"] * 4
    assert (table["lesion_id"] == "").all()


def test_an_unknown_age_stays_unknown(raw: Path, photographs: list[Path]) -> None:
    rows = f"HAM_1,{photographs[0].stem},nv,histo,,unknown,\nHAM_2,{photographs[1].stem},mel,histo,45.0,,back\n"
    (raw / "labels.csv").write_text(METADATA + rows)
    table = run_manifest()
    assert table["age"].isna().to_list() == [True, False]
    assert table[["sex", "localization"]].to_numpy().tolist() == [["unknown", ""], ["", "back"]]


def test_an_image_without_a_label_is_left_out(raw: Path, photographs: list[Path]) -> None:
    (raw / "labels.csv").write_text(f"image_id,dx\n{photographs[3].stem},nv\n{photographs[6].stem},mel\n")
    assert run_manifest()["image_id"].to_list() == [photographs[3].stem, photographs[6].stem]


def test_an_image_without_a_label_is_left_out_and_counted(raw: Path) -> None:
    image = sorted((raw / "images").iterdir())[0]
    shutil.copy(image, raw / "images/stranger.jpg")
    assert "stranger" not in set(run_manifest()["image_id"])
    statistics = json.loads(Path("metrics/data.json").read_text())
    assert (statistics["images"], statistics["unlabelled"]) == (8, 1)


def test_statistics_and_class_distribution_are_counted(raw: Path) -> None:
    run_manifest()
    assert written() == OUTPUTS
    statistics = json.loads(Path("metrics/data.json").read_text())
    assert statistics == {
        "dataset": None,
        "images": 8,
        "lesions": 6,
        "patients": None,
        "rejected": 0,
        "unlabelled": 0,
        "duplicate_groups": 0,
        "duplicate_groups_with_several_labels": 0,
        "lesions_with_several_labels": 0,
        "classes": {"mel": 2, "nv": 6},
    }
    assert Path("plots/class_distribution.csv").read_text() == "label,images,lesions\nnv,6,4\nmel,2,2\n"
    assert Path("data/rejected.csv").read_text() == "image_id,reason\n"


def test_the_same_images_give_the_same_bytes(raw: Path) -> None:
    run_manifest()
    first = [Path(name).read_bytes() for name in OUTPUTS]
    run_manifest()
    assert [Path(name).read_bytes() for name in OUTPUTS] == first


def test_the_same_file_under_several_ids_is_reported_with_the_labels(
    raw: Path, photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [photograph.stem for photograph in photographs]
    shutil.copy(photographs[0], raw / f"images/{names[4]}.jpg")
    shutil.copy(photographs[5], raw / f"images/{names[6]}.jpg")
    assert len(run_manifest()) == 8
    lines = capsys.readouterr().out.splitlines()
    assert f"manifest: the same file under several ids: {names[0]} (mel), {names[4]} (nv)" in lines
    assert f"manifest: the same file under several ids: {names[5]} (nv), {names[6]} (nv)" in lines
    statistics = json.loads(Path("metrics/data.json").read_text())
    assert statistics["duplicate_groups"] == 2
    assert statistics["duplicate_groups_with_several_labels"] == 1


def test_a_lesion_with_several_labels_is_counted(raw: Path, photographs: list[Path]) -> None:
    rows = [f"HAM_1,{photographs[0].stem},nv", f"HAM_1,{photographs[1].stem},mel", f"HAM_2,{photographs[2].stem},nv"]
    (raw / "labels.csv").write_text("lesion_id,image_id,dx\n" + "\n".join(rows))
    run_manifest()
    assert json.loads(Path("metrics/data.json").read_text())["lesions_with_several_labels"] == 1


@pytest.fixture
def faults(raw: Path, photographs: list[Path]) -> dict[str, str]:
    """Spoil four images; return words that the reason must have, by image id."""
    missing, empty, truncated, text = photographs[1:5]
    (raw / "images" / missing.name).unlink()
    (raw / "images" / empty.name).write_bytes(b"")
    (raw / "images" / truncated.name).write_bytes(truncated.read_bytes()[:10_000])
    (raw / "images" / text.name).write_text("not found")
    return {missing.stem: "no file", empty.stem: "empty", truncated.stem: "truncated", text.stem: "not an image"}


def test_bad_images_fail_the_stage_with_every_reason_and_nothing_is_written(faults: dict[str, str]) -> None:
    with pytest.raises(DataError, match="4 of 8 labelled images are bad") as error:
        run_manifest({"on_bad_image": "fail"})
    clauses = str(error.value).split("; ")
    for image_id, reason in faults.items():
        assert any(image_id in clause and reason in clause for clause in clauses)
    assert "on_bad_image=skip" in str(error.value)
    assert written() == []


def test_a_failed_run_leaves_the_results_of_the_one_before(
    raw: Path, photographs: list[Path], faults: dict[str, str]
) -> None:
    for photograph in photographs:
        shutil.copy(photograph, raw / "images")
    run_manifest()
    before = {name: Path(name).read_bytes() for name in written()}
    (raw / "images" / photographs[0].name).write_bytes(b"")
    with pytest.raises(DataError, match="1 of 8"):
        run_manifest()
    assert {name: Path(name).read_bytes() for name in written()} == before


def test_skipping_leaves_bad_images_out_and_lists_them_with_their_reasons(
    faults: dict[str, str], photographs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table = run_manifest({"on_bad_image": "skip"})
    assert table["image_id"].to_list() == [p.stem for p in photographs if p.stem not in faults]
    rejected = read_table(Path("data/rejected.csv"))
    assert list(rejected.columns) == ["image_id", "reason"]
    assert set(rejected["image_id"]) == set(faults)
    for image_id, reason in rejected.itertuples(index=False):
        assert faults[image_id] in reason
    statistics = json.loads(Path("metrics/data.json").read_text())
    assert (statistics["images"], statistics["rejected"]) == (4, 4)
    assert "4 rejected" in capsys.readouterr().out


def test_skipping_every_image_is_an_error(raw: Path, photographs: list[Path]) -> None:
    for photograph in photographs:
        (raw / "images" / photograph.name).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of the 8 labelled images can be used.*empty"):
        run_manifest({"on_bad_image": "skip"})
    assert written() == []


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("ISIC_1,nv\nISIC_2,nv\nISIC_1,mel\n", "row 4, column image_id: 'ISIC_1' is in an earlier row too"),
        ("ISIC_1,nv\nISIC_1.jpg,nv\n", "row 3, column image_id: 'ISIC_1' is in an earlier row too"),
        (",nv\n", "row 2, column image_id: '' is empty"),
    ],
    ids=["twice", "twice, once with suffix", "no id"],
)
def test_a_label_table_that_breaks_the_contract_is_refused(raw: Path, rows: str, fault: str) -> None:
    (raw / "labels.csv").write_text(f"image_id,dx\n{rows}")
    with pytest.raises(DataError) as error:
        run_manifest({"on_bad_image": "skip"})
    assert str(error.value).startswith(f"data/raw/labels.csv, {fault}")
    assert written() == []


@pytest.mark.parametrize("age", ["-1", "121", "inf"])
def test_an_impossible_age_is_refused(raw: Path, photographs: list[Path], age: str) -> None:
    (raw / "labels.csv").write_text(f"image_id,dx,age\n{photographs[0].stem},nv,{age}\n")
    with pytest.raises(DataError, match=rf"data/raw/labels\.csv, row 2, column age: '{age}.* is not an age"):
        run_manifest()


def test_a_single_class_is_refused(raw: Path, photographs: list[Path]) -> None:
    (raw / "labels.csv").write_text("image_id,dx\n" + "".join(f"{photograph.stem},nv\n" for photograph in photographs))
    with pytest.raises(DataError, match="all images are nv"):
        run_manifest()
    assert written() == []


def test_a_single_class_that_is_left_after_skipping_is_refused(raw: Path, photographs: list[Path]) -> None:
    for photograph in photographs[:2]:  # all that are mel
        (raw / "images" / photograph.name).unlink()
    with pytest.raises(DataError, match="all images are nv"):
        run_manifest({"on_bad_image": "skip"})
    assert written() == []


def test_without_raw_data_the_label_table_is_missed(project: Path) -> None:
    with pytest.raises(DataError, match=r"data/raw/labels\.csv"):
        run_manifest()


class TestFoundLesions:
    """data.lesions=found: data/found_lesions.csv says the lesion of an image, and of the others the label table."""

    def write(self, text: str) -> None:
        Path("data/found_lesions.csv").write_text(text)

    def message(self) -> str:
        """Return what the stage says of the table."""
        with pytest.raises(DataError) as error:
            run_manifest({"lesions": "found"})
        assert written() == (["data/found_lesions.csv"] if Path("data/found_lesions.csv").exists() else [])
        return str(error.value)

    def test_they_take_the_place_of_the_label_tables_which_says_it_of_the_others(
        self, raw: Path, photographs: list[Path]
    ) -> None:
        names = [photograph.stem for photograph in photographs]
        self.write(f"image_id,lesion_id\n{names[1]},found_1\n{names[6]},found_1\nstranger,found_1\n")
        known = run_manifest({"lesions": "table"})["lesion_id"]
        expected = [lesion if number not in (1, 6) else "found_1" for number, lesion in enumerate(known)]
        assert run_manifest({"lesions": "found"})["lesion_id"].to_list() == expected
        statistics = json.loads(Path("metrics/data.json").read_text())
        assert (statistics["lesions"], statistics["lesions_with_several_labels"]) == (6, 1)

    def test_with_the_label_tables_lesions_the_file_is_not_read(self, raw: Path) -> None:
        self.write("nonsense")
        assert run_manifest({"lesions": "table"})["lesion_id"].iloc[0] == "HAM_0"

    def test_an_empty_table_is_refused(self, raw: Path) -> None:
        self.write("image_id,lesion_id\n")
        assert self.message() == (
            "data.lesions=found needs data/found_lesions.csv, which names no lesion: run python -m tools.duplicates "
            "first, with data.lesions=table"
        )

    def test_a_missing_table_is_refused(self, raw: Path) -> None:
        assert "data/found_lesions.csv cannot be read ([Errno 2] No such file" in self.message()

    def test_a_table_of_other_images_is_refused(self, raw: Path) -> None:
        self.write("image_id,lesion_id\nstranger,found_1\n")
        assert "data/found_lesions.csv names none of the 8 labelled images: run" in self.message()

    @pytest.mark.parametrize(
        ("rows", "fault"),
        [
            ("", "cannot be read (No columns"),
            ("image_id\nISIC_0000001\n", "does not have the columns image_id and lesion_id"),
            ("image_id,lesion_id\nISIC_0000001,a,b\n", "does not have the columns image_id and lesion_id"),
            ("image_id,lesion_id,note\nISIC_0000001,a,b\n", "does not have the columns image_id and lesion_id"),
            ('image_id,lesion_id\n"ISIC_0000001,a\n', "cannot be read ("),
            (
                "image_id,lesion_id\nISIC_0000001,a\nISIC_0000001,b\n",
                "found_lesions.csv, row 3, column image_id: 'ISIC_0000001' is in an earlier row",
            ),
            (
                "image_id,lesion_id\nISIC_0000001,\x1b[31m\n",
                "row 2, column lesion_id: '\\x1b[31m' has control characters",
            ),
        ],
        ids=["nothing", "no lesion", "long row", "other column", "open quote", "twice", "control character"],
    )
    def test_a_table_that_cannot_be_used_is_refused(self, raw: Path, rows: str, fault: str) -> None:
        self.write(rows)
        assert fault in self.message()


class TestDirectory:
    """A folder that is read in place."""

    @pytest.fixture
    def folder(self, project: Path, photographs: list[Path]) -> Path:
        """Beside the project: images in two subfolders, and a label table."""
        folder = project.parent / "my images"
        for number, photograph in enumerate(photographs):
            (folder / f"part {number % 2}").mkdir(parents=True, exist_ok=True)
            shutil.copy(photograph, folder / f"part {number % 2}")
        rows = [f"{photograph.stem},{'nv' if number > 1 else 'mel'}\n" for number, photograph in enumerate(photographs)]
        (folder / "labels.csv").write_text("image_id,dx\n" + "".join(rows))
        return folder

    def read(self, changes: dict[str, Any] | None = None) -> pd.DataFrame:
        """Run listing and manifest and return data/manifest.csv."""
        source = {"source": "directory", "directory": "../my images"} | (changes or {})
        write_params(Path(), {"data": source})
        listing.main(**sections_of(listing.main))
        return run_manifest(source)

    def test_a_relative_path_is_read_in_place_and_nothing_in_it_changes(
        self, folder: Path, photographs: list[Path]
    ) -> None:
        before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
        table = self.read()
        assert table["image_id"].to_list() == [photograph.stem for photograph in photographs]
        paths = [folder / f"part {number % 2}" / photograph.name for number, photograph in enumerate(photographs)]
        assert table["path"].to_list() == [str(path) for path in paths]
        assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")} == before
        assert not Path("data/raw").exists()

    def test_one_image_in_two_folders_is_one_image(self, folder: Path, photographs: list[Path]) -> None:
        shutil.copy(photographs[0], folder / "part 1")
        assert len(self.read()) == 8

    def test_different_images_of_one_name_are_bad(self, folder: Path, photographs: list[Path]) -> None:
        shutil.copy(photographs[1], folder / "part 1" / photographs[0].name)
        with pytest.raises(DataError, match="1 of 8") as error:
            self.read()
        for part in ("part 0", "part 1"):
            assert str(folder / part / photographs[0].name) in str(error.value)
        assert "differ" in str(error.value)

    def test_images_of_one_name_with_different_suffixes_are_bad(self, folder: Path, photographs: list[Path]) -> None:
        Image.open(photographs[0]).save(folder / "part 1" / f"{photographs[0].stem}.png")
        assert len(self.read({"on_bad_image": "skip"})) == 7

    def test_an_image_that_has_gone_since_it_was_listed_is_bad(self, folder: Path, photographs: list[Path]) -> None:
        source = {"source": "directory", "directory": "../my images"}
        write_params(Path(), {"data": source})
        listing.main(**sections_of(listing.main))
        (folder / "part 0" / photographs[0].name).unlink()
        with pytest.raises(DataError, match=f"1 of 8.*{photographs[0].name} is missing: bring it back"):
            run_manifest(source)

    def test_a_link_to_nowhere_beside_an_image_of_its_name_is_bad(self, folder: Path, photographs: list[Path]) -> None:
        (folder / "part 1" / photographs[0].name).symlink_to(folder / "nowhere")
        with pytest.raises(DataError, match=f"1 of 8.*{photographs[0].stem}"):
            self.read()
