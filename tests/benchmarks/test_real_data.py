"""The benchmarks that use the folder `shared` beside the checkout, where there is one and where there is none."""

import sys
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import real_data
from benchmarks.__main__ import main
from benchmarks.kaggle_archive import FOLDERS, PIXEL_TABLES, write_archive
from benchmarks.kaggle_run import room
from benchmarks.variation import make_real_project, vary
from dermoscopy.data.sources.archive import METADATA
from dermoscopy.runtime.commands import run_command


def test_without_the_real_data_one_line_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(real_data, "HAM10000", tmp_path / "nowhere")
    monkeypatch.setattr(real_data, "WEIGHTS", tmp_path / "none.weights.h5")
    monkeypatch.setattr(sys, "argv", ["benchmarks", "kaggle_run"])
    assert not real_data.has_real_data()
    with pytest.raises(SystemExit) as end:
        run_command(main)
    line = str(end.value.code)  # which Python prints, and ends with 1
    assert line.startswith("error: ")
    assert "\n" not in line
    assert str(tmp_path / "nowhere") in line
    assert str(tmp_path / "none.weights.h5") in line


def test_the_archive_has_each_image_twice_as_kaggles_has(tmp_path: Path) -> None:
    images = {f"ISIC_{number}": f"jpeg {number}".encode() for number in range(3)}
    with zipfile.ZipFile(write_archive(tmp_path / "archive.zip", b"labels", images, first_part=1)) as archive:
        assert archive.read(METADATA) == b"labels"
        assert set(archive.namelist()) == {
            METADATA,
            *PIXEL_TABLES,
            *(f"{folder}/ISIC_0.jpg" for folder in FOLDERS[::2]),
            *(f"{folder}/ISIC_{number}.jpg" for folder in FOLDERS[1::2] for number in (1, 2)),
        }
        for folder in FOLDERS[::2]:
            assert archive.read(f"{folder}/ISIC_0.jpg") == images["ISIC_0"]
    assert [folder.lower() for folder in FOLDERS[:2]] == FOLDERS[2:]
    assert set(FOLDERS[:2]).isdisjoint(FOLDERS[2:])


def test_a_file_with_two_names_takes_its_room_once(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project/data").write_bytes(bytes(1_000_000))
    alone = room([tmp_path / "project"])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/data").hardlink_to(tmp_path / "project/data")
    folder = (tmp_path / "cache").lstat().st_blocks * 512
    assert alone == pytest.approx(1_000_000, rel=0.01)
    assert room([tmp_path / "project", tmp_path / "cache"]) <= alone + folder
    assert room([tmp_path / "cache/data"]) == alone


@pytest.mark.slow
def test_a_variation_of_a_real_project_is_of_its_images(ham10000_metadata: Path, tmp_path: Path) -> None:
    table = pd.read_csv(ham10000_metadata).groupby("dx").head(20)
    table.to_csv(tmp_path / "few.csv", index=False)
    changes: dict[str, dict[str, Any]] = {
        "data": real_data.IMAGES_IN_PLACE | {"labels": str(tmp_path / "few.csv")},
        "augmentation": {"views": 0},
        "train": {"epochs": 3},
    }
    project = make_real_project(tmp_path, changes)
    assert project.run("git", "status", "--porcelain") == ""
    manifest = pd.read_csv(project.folder / "data/manifest.csv")
    assert len(manifest) == len(table)
    images = real_data.HAM10000.resolve()
    assert all(Path(path).resolve().is_relative_to(images) for path in manifest["path"])
    assert vary(project, 0.4)["epochs"] == 3
