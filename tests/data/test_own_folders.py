"""A user's own folder, from its files to the manifest and the split: what is in it, and in what form."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dermoscopy.data import inspections
from dermoscopy.data.raw import match_files
from dermoscopy.data.sources.directory import ListedFile
from dermoscopy.data.tables import read_table
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.errors import DataError, SourceError, StorageError
from dermoscopy.runtime.paths import LISTING
from stages import download, listing, manifest, split
from tests.support.params_file import write_params
from tests.support.photographs import jpeg


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of images; this process runs in a project beside it."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    images = tmp_path / "my images"
    images.mkdir()
    return images


def add(folder: Path, *names: str) -> None:
    """Write a photograph for each name, each with a content of its own."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(1 + sum(map(ord, name)) % 5) + name.encode())  # what stands behind a JPEG is not read


def run(folder: Path, **data: Any) -> pd.DataFrame:
    """Run listing and manifest, and return the manifest."""
    write_params(Path(), {"data": {"source": "directory", "directory": str(folder)} | data})
    listing.main(**sections_of(listing.main))
    manifest.main(**sections_of(manifest.main))
    return read_table(Path("data/manifest.csv"))


def statistics() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path("metrics/data.json").read_text())
    return content


def labels_of(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["image_id"], table["label"], strict=True))


class TestFolderForEachClass:
    """No table at all."""

    def test_the_folder_right_above_an_image_is_its_class(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add(folder, "images/mel/x.jpg", "images/nv/x.jpg", "test/mel/y.png", "images/Blue Nevus/z.jpg", "cover.jpg")
        table = run(folder)
        assert labels_of(table) == {
            "images/mel/x": "mel",
            "images/nv/x": "nv",
            "y": "mel",
            "z": "blue nevus",
        }
        assert dict(zip(table["image_id"], table["path"], strict=True))["images/nv/x"] == str(
            folder / "images/nv/x.jpg"
        )
        assert (statistics()["lesions"], statistics()["patients"], statistics()["unlabelled"]) == (None, None, 1)
        out = capsys.readouterr().out
        assert "manifest: 4 images (lesions unknown); mel: 2, blue nevus: 1, nv: 1; 0 rejected" in out
        assert f"manifest: images without a label, left out: {folder}/cover.jpg\n" in out
        assert "neither lesions nor patients are known" in out

    def test_folders_above_the_classes_that_differ_are_warned_of(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add(folder, "melanoma/p1/a.jpg", "melanoma/p2/b.jpg", "nevus/p3/c.jpg")
        assert set(run(folder)["label"]) == {"p1", "p2", "p3"}
        expected = "the folder right above an image is its class, p1, p2, p3, and not one above that, melanoma, nevus"
        assert f"warning: {expected}\n" in capsys.readouterr().err
        add(folder, "train/mel/a.jpg", "train/nv/b.jpg", "test/mel/c.jpg", "test/nv/d.jpg")
        for name in ("melanoma", "nevus"):
            shutil.rmtree(folder / name)
        assert set(run(folder)["label"]) == {"mel", "nv"}
        assert "warning" not in capsys.readouterr().err

    def test_pictures_in_a_format_that_is_not_read_are_named(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add(folder, "mel/a.jpg", "nv/b.jpg", "nv/IMG_1.HEIC", "nv/c.dcm")
        run(folder)
        err = capsys.readouterr().err
        assert f"format that is not read: {folder}/nv/IMG_1.HEIC, {folder}/nv/c.dcm: convert them" in err

    def test_one_folder_is_no_set_of_classes(self, folder: Path) -> None:
        add(folder, "images/x.jpg", "images/y.jpg")
        with pytest.raises(
            DataError, match=r"all images are images: .* by a label table or by a folder for each class"
        ):
            run(folder)

    def test_images_at_the_top_alone_have_no_class(self, folder: Path) -> None:
        add(folder, "x.jpg", "y.jpg")
        with pytest.raises(DataError, match=r"has no label table \(\.csv\) at its top and no subfolder for each class"):
            run(folder)

    def test_a_table_in_another_form_is_asked_about_before_folders_are_taken_for_classes(self, folder: Path) -> None:
        add(folder, "HAM10000_images_part_1/a.jpg", "HAM10000_images_part_2/b.jpg")
        (folder / "meta.csv").write_text("image,befund\na,nv\nb,mel\n")
        with pytest.raises(
            DataError, match=r"no label table: .*meta\.csv has the columns image, befund: which of them"
        ):
            run(folder)
        assert labels_of(run(folder, columns={"label": "befund"})) == {"a": "nv", "b": "mel"}


class TestWhichFile:
    """From what a table writes to a file."""

    def test_a_folder_in_the_table_tells_images_of_one_name_apart(self, folder: Path) -> None:
        add(folder, "images/NEL/1.jpg", "images/NGL/1.jpg", "images/NGL/2.jpg")
        (folder / "meta.csv").write_text("derm,diagnosis\nNEL/1.jpg,nevus\nNGL/1.jpg,melanoma\nNGL/2.jpg,nevus\n")
        table = run(folder).set_index("image_id")
        assert table["label"].to_dict() == {"2": "nevus", "NEL/1": "nevus", "NGL/1": "melanoma"}
        assert [Path(path).relative_to(folder / "images").as_posix() for path in table["path"]] == [
            "NGL/2.jpg",
            "NEL/1.jpg",
            "NGL/1.jpg",
        ]

    def test_folders_of_another_machine_do_no_harm(self, folder: Path) -> None:
        add(folder, "a.jpg", "b.jpg")
        (folder / "t.csv").write_text("image,label\n/content/drive/a.jpg,nv\nC:\\data\\b.jpg,mel\n")
        assert labels_of(run(folder)) == {"a": "nv", "b": "mel"}

    def test_a_missing_image_does_not_get_the_file_of_another_with_its_name(self, folder: Path) -> None:
        add(folder, "nv/2.jpg", "nv/3.jpg", "mel/3.jpg", "mel/4.jpg")
        (folder / "t.csv").write_text("image,label\nnv/2,nv\nmel/2,mel\nnv/3,nv\nmel/3,mel\nmel/4,mel\n")
        with pytest.raises(DataError, match="1 of 5 labelled images are bad: mel/2: no file of this name"):
            run(folder)
        assert set(run(folder, on_bad_image="skip")["image_id"]) == {"4", "nv/2", "nv/3", "mel/3"}

    def test_ten_thousand_files_of_one_name_are_matched_at_once(self, folder: Path) -> None:
        names = [f"case{number:05d}/image" for number in range(10_000)]
        files = [ListedFile("image", f"/far/{name}.jpg", 1, 1) for name in names]
        matched = match_files(names, files)
        assert [file.path for name in names for file in matched[name]] == [file.path for file in files]

    def test_an_image_that_moves_to_another_class_keeps_its_id(self, folder: Path) -> None:
        add(folder, "nv/a.jpg", "nv/b.jpg", "mel/c.jpg", "mel/d.jpg")
        before = run(folder).set_index("image_id")["sha256"]
        (folder / "nv/b.jpg").rename(folder / "mel/b.jpg")
        after = run(folder)
        assert after.set_index("image_id")["sha256"].equals(before)
        assert labels_of(after)["b"] == "mel"

    def test_folders_may_be_the_classes_beside_a_table_of_patients(self, folder: Path) -> None:
        add(folder, "nv/a.jpg", "nv/b.jpg", "mel/c.jpg", "mel/d.jpg")
        (folder / "patients.csv").write_text("image,patient_id,age\na.jpg,P1,50\nc.jpg,P1,\n")
        with pytest.raises(DataError, match=r"their classes, set data\.labels=folders"):
            run(folder)
        table = run(folder, labels="folders").set_index("image_id")
        assert table["label"].to_dict() == {"a": "nv", "b": "nv", "c": "mel", "d": "mel"}
        assert table["patient_id"].to_dict() == {"a": "P1", "b": "", "c": "P1", "d": ""}

    @pytest.mark.parametrize("inside", ["data/raw", "data/raw/mine", "data", "."])
    def test_the_folder_that_the_pipeline_empties_is_refused(self, folder: Path, inside: str) -> None:
        add(Path(inside), "nv/a.jpg", "mel/b.jpg")
        with pytest.raises(SourceError, match="move the images to a folder of their own"):
            run(Path(inside).absolute())
        with pytest.raises(SourceError, match="move the images to a folder of their own"):
            download.main(**sections_of(download.main))
        assert (Path(inside) / "nv/a.jpg").exists()

    def test_what_has_no_label_is_left_out_counted_or_an_error(self, folder: Path) -> None:
        add(folder, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
        (folder / "t.csv").write_text("image,label\na,nv\nb,mel\nc,\n")
        assert labels_of(run(folder)) == {"a": "nv", "b": "mel"}
        assert statistics()["unlabelled"] == 2
        with pytest.raises(DataError, match=r"2 of 4 images have no label: .*c\.jpg, .*d\.jpg; .*on_unlabelled=ignore"):
            run(folder, on_unlabelled="fail")

    def test_a_table_whose_labels_are_all_empty_is_refused(self, folder: Path) -> None:
        add(folder, "a.jpg", "b.jpg")
        (folder / "t.csv").write_text("image,label\na,\nb,NA\n")
        with pytest.raises(DataError, match="none of 2 images has a label"):
            run(folder)

    def test_a_row_without_an_image_is_a_bad_image(self, folder: Path) -> None:
        add(folder, "a.jpg", "b.jpg")
        (folder / "t.csv").write_text("image,label\na,nv\nb,mel\nlost,nv\n")
        with pytest.raises(DataError, match="1 of 3 labelled images are bad: lost: no file of this name"):
            run(folder)
        assert len(run(folder, on_bad_image="skip")) == 2

    def test_the_unpacked_archive_as_it_is(self, folder: Path) -> None:
        add(folder, "HAM10000_images_part_1/a.jpg", "HAM10000_images_part_2/b.jpg")
        shutil.copytree(folder / "HAM10000_images_part_1", folder / "ham10000_images_part_1")
        (folder / "HAM10000_metadata.csv").write_text("lesion_id,image_id,dx\nL1,a,nv\nL2,b,mel\n")
        header = ",".join(f"pixel{number:04d}" for number in range(2352)) + ",label\n"
        (folder / "hmnist_28_28_RGB.csv").write_bytes(header.encode() + b"\xff never read\n")
        assert labels_of(run(folder)) == {"a": "nv", "b": "mel"}

    def test_linked_folders_are_read_and_a_loop_is_named(
        self, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add(tmp_path / "disk", "mel/a.jpg", "nv/b.jpg")
        (folder / "linked").symlink_to(tmp_path / "disk")
        (tmp_path / "disk/nv/back").symlink_to(folder)
        assert labels_of(run(folder)) == {"a": "mel", "b": "nv"}
        err = capsys.readouterr().err
        assert f"warning: listing: {folder}/linked/nv/back leads back to a folder that holds it: skipped" in err


class TestLesionsAndPatients:
    """What the tables know of them decides the split."""

    def many(self, folder: Path, columns: str, row: Callable[[int], str]) -> None:
        add(folder, *(f"{number}.jpg" for number in range(80)))
        rows = [f"{number},{'mel' if number % 20 < 4 else 'nv'},{row(number)}\n" for number in range(80)]
        (folder / "t.csv").write_text(f"image,label,{columns}\n" + "".join(rows))

    def parts(self, **changes: Any) -> "pd.Series[str]":
        write_params(Path(), {"split": changes})
        split.main(**sections_of(split.main))
        return read_table(Path("data/split.csv"))["part"]

    def test_columns_that_are_not_used_are_named_and_an_image_of_no_patient_is_counted(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.many(folder, "Patient Nr,patient_id", lambda number: f"7,{'P' if number else ''}")
        run(folder)
        out, err = capsys.readouterr()
        assert f"note: columns of {folder}/t.csv that are not used: Patient Nr\n" in err
        assert "80 images (lesions unknown) of 1 patients (1 of none); nv: 64, mel: 16; 0 rejected" in out

    def test_patients_stay_together_where_they_are_known(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.many(folder, "lesion_id,patient_id", lambda number: f"L{number // 2},P{number // 4}")
        table = run(folder)
        assert (statistics()["lesions"], statistics()["patients"]) == (40, 20)
        assert "80 images of 40 lesions of 20 patients; " in capsys.readouterr().out
        parts = self.parts()
        assert parts.groupby(table["patient_id"]).nunique().max() == 1
        assert "images, by patient\n" in capsys.readouterr().out
        by_lesion = self.parts(group="lesion")
        assert by_lesion.groupby(table["lesion_id"]).nunique().max() == 1
        assert by_lesion.groupby(table["patient_id"]).nunique().max() > 1
        assert self.parts(group="image").groupby(table["lesion_id"]).nunique().max() > 1

    def test_a_rare_class_of_which_many_patients_have_an_image_is_shared_out(self, folder: Path) -> None:
        # every fourth patient has one mel among four images, and one patient has nothing else
        self.many(folder, "patient_id", lambda number: f"P{number // 4}")
        rows = [
            f"{number},{'mel' if number % 16 == 0 or number < 4 else 'nv'},P{number // 4}\n" for number in range(80)
        ]
        (folder / "t.csv").write_text("image,label,patient_id\n" + "".join(rows))
        table = run(folder)
        parts = self.parts()
        assert parts.groupby(table["patient_id"]).nunique().max() == 1
        assert set(parts[table["label"] == "mel"]) == {"train", "validation", "test"}

    def test_a_class_that_nearly_all_patients_have_beside_rarer_ones_is_no_rare_class(self, folder: Path) -> None:
        # each patient has nv, and all but one also mel or bcc
        self.many(folder, "patient_id", lambda number: f"P{number // 4}")
        kinds = {0: "mel", 1: "bcc"}
        rows = [f"{n},{kinds[n // 4 % 2] if n % 4 == 0 and n > 3 else 'nv'},P{n // 4}\n" for n in range(80)]
        (folder / "t.csv").write_text("image,label,patient_id\n" + "".join(rows))
        table = run(folder)
        parts = self.parts()
        for label in ("nv", "mel", "bcc"):
            assert set(parts[table["label"] == label]) == {"train", "validation", "test"}

    def test_a_class_of_two_patients_is_named(self, folder: Path) -> None:
        self.many(folder, "patient_id", lambda number: f"P{number // 4}")
        rows = [f"{n},{'df' if n in (0, 8) else 'mel' if n % 8 == 1 else 'nv'},P{n // 4}\n" for n in range(80)]
        (folder / "t.csv").write_text("image,label,patient_id\n" + "".join(rows))
        run(folder)
        with pytest.raises(DataError, match="class df has 2 of 20 patients, too few to appear in every part"):
            self.parts()

    def test_an_image_of_an_unknown_lesion_is_a_group_of_its_own(self, folder: Path) -> None:
        self.many(folder, "lesion_id", lambda number: "L" if number < 3 else "")
        table = run(folder)
        assert statistics()["lesions"] == 1
        parts = self.parts()
        assert len(set(parts[table["lesion_id"] == "L"])) == 1
        assert set(parts[table["lesion_id"] == ""]) == {"train", "validation", "test"}

    @pytest.mark.parametrize("group", ["lesion", "patient"])
    def test_a_split_by_what_nobody_knows_is_refused(self, folder: Path, group: str) -> None:
        self.many(folder, "age", lambda number: "50")
        run(folder)
        with pytest.raises(DataError, match=rf"split\.group={group} needs .* data\.columns\.{group}, .*group=image"):
            self.parts(group=group)


class TestNothingStale:
    """What the user changes is in the listing; what has not changed is not read again."""

    @pytest.fixture
    def filled(self, folder: Path) -> Path:
        add(folder, "a.jpg", "b.jpg", "c.jpg")
        (folder / "t.csv").write_text("image,label\na,nv\nb,mel\nc,nv\n")
        return folder

    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The images that are read from now on."""
        names: list[str] = []

        def note(path: str) -> bytes:
            names.append(Path(path).name)
            return Path(path).read_bytes()

        monkeypatch.setattr(inspections, "read_bytes", note)
        return names

    def test_only_what_changed_is_read(self, filled: Path, read: list[str]) -> None:
        run(filled)
        assert sorted(read) == ["a.jpg", "b.jpg", "c.jpg"]
        read.clear()
        (filled / "t.csv").write_text("image,label\na,nevus\nb,mel\nc,nevus\n")
        assert labels_of(run(filled)) == {"a": "nevus", "b": "mel", "c": "nevus"}
        assert read == []
        before = run(filled).set_index("image_id")["sha256"]
        (filled / "b.jpg").write_bytes(jpeg(3))
        after = run(filled).set_index("image_id")["sha256"]
        assert (before != after).to_dict() == {"a": False, "b": True, "c": False}
        assert read == ["b.jpg"]

    def test_a_bad_image_that_is_mended_costs_no_second_look_at_the_others(self, filled: Path, read: list[str]) -> None:
        (filled / "c.jpg").write_bytes(b"")
        with pytest.raises(DataError, match="1 of 3 labelled images are bad"):
            run(filled)
        read.clear()
        add(filled, "c.jpg")
        assert len(run(filled)) == 3
        assert read == ["c.jpg"]

    @pytest.mark.parametrize("spoilt", [b"", b"\xff\xfe", b"a,b\n", b'"'], ids=["empty", "bytes", "table", "quote"])
    def test_what_was_kept_is_not_trusted_where_it_is_damaged(self, filled: Path, spoilt: bytes) -> None:
        expected = run(filled)
        Path("data/.inspections.csv").write_bytes(spoilt)
        pd.testing.assert_frame_equal(run(filled), expected)

    def test_a_table_in_another_order_gives_the_same_manifest(self, filled: Path) -> None:
        run(filled)
        before = Path("data/manifest.csv").read_bytes()
        (filled / "t.csv").write_text("image,label\nc,nv\na,nv\nb,mel\n")
        run(filled)
        assert Path("data/manifest.csv").read_bytes() == before

    def test_a_return_to_an_earlier_folder_reads_nothing(self, filled: Path, tmp_path: Path, read: list[str]) -> None:
        run(filled)
        other = tmp_path / "other"
        add(other, "nv/e.jpg", "mel/f.jpg")
        run(other)
        read.clear()
        run(filled)
        assert read == []

    def test_an_emptied_folder_is_an_error_and_not_the_one_before(self, filled: Path) -> None:
        run(filled)
        for path in filled.iterdir():
            path.unlink()
        with pytest.raises(SourceError, match="holds no image"):
            run(filled)

    def test_each_change_is_in_the_listing(self, filled: Path) -> None:
        seen = set()

        def listed() -> bytes:
            write_params(Path(), {"data": {"source": "directory", "directory": str(filled)}})
            listing.main(**sections_of(listing.main))
            return LISTING.read_bytes()

        seen.add(listed())
        assert listed() in seen
        for change in (
            lambda: (filled / "t.csv").write_text("image,label\na,nv\nb,mel\nc,mel\n"),
            lambda: add(filled, "deep/d.jpg"),
            lambda: (filled / "a.jpg").write_bytes(jpeg(2)),
            lambda: (filled / "b.jpg").unlink(),
            lambda: (filled / "more.csv").write_text("image,lesion_id\na,L\n"),
            lambda: os.utime(filled / "c.jpg"),
        ):
            change()
            assert listed() not in seen
            seen.add(LISTING.read_bytes())

    def test_a_folder_that_is_gone_leaves_the_listing_and_says_so(
        self, filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(filled)
        before = LISTING.read_bytes()
        filled.rename(tmp_path / "elsewhere")
        listing.main(**sections_of(listing.main))
        assert LISTING.read_bytes() == before
        assert f"warning: listing: {filled} is not there: " in capsys.readouterr().err
        write_params(Path(), {"data": {"source": "directory", "directory": str(tmp_path / "typo")}})
        with pytest.raises(StorageError, match="typo is not there: bring it back, or name the folder of images"):
            listing.main(**sections_of(listing.main))

    def test_a_folder_in_the_project_moves_with_it(self, filled: Path, tmp_path: Path) -> None:
        shutil.move(filled, "mine")
        table = run(Path("mine"))
        assert table["path"].to_list() == ["mine/a.jpg", "mine/b.jpg", "mine/c.jpg"]
        before = LISTING.read_bytes()
        Path.cwd().rename(tmp_path / "moved")
        os.chdir(tmp_path / "moved")
        listing.main(**sections_of(listing.main))
        assert LISTING.read_bytes() == before
