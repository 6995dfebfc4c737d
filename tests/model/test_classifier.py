"""What tools.predict reads, before any network is at work."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from dermoscopy.data.images import read_image
from dermoscopy.features.views import draw_warp, render_views
from dermoscopy.model.classifier import find_images, read_views
from dermoscopy.model.head import HeadInfo
from dermoscopy.runtime.errors import DataError
from tests.support.params_file import PARAMS

INFO = HeadInfo(classes=["mel", "nv"], backbone="0" * 64, augmentation=PARAMS.augmentation)


def make_files(folder: Path, *names: str) -> list[Path]:
    """Make empty files and return their paths."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def test_a_folder_stands_for_the_images_in_it_and_in_its_subfolders(tmp_path: Path) -> None:
    images = make_files(tmp_path, "a.jpg", "b.PNG", "inner/c.jpeg", "inner/deep/d.tif")
    make_files(tmp_path, "labels.csv", "notes.txt", "inner/a.json")
    assert find_images([tmp_path]) == images


def test_files_are_taken_as_they_are_in_the_order_given(tmp_path: Path) -> None:
    files = make_files(tmp_path, "z.jpg", "scan.dat", "a.jpg")
    assert find_images(files) == files


def test_files_and_folders_may_be_mixed(tmp_path: Path) -> None:
    single, *others = make_files(tmp_path, "z.jpg", "folder/a.jpg", "folder/b.jpg")
    assert find_images([single, tmp_path / "folder"]) == [single, *others]


def test_an_image_named_twice_is_found_once(tmp_path: Path) -> None:
    first, second = make_files(tmp_path, "a.jpg", "b.jpg")
    assert find_images([second, tmp_path, second]) == [second, first]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no image"):
        find_images([tmp_path / "empty"])


def test_views_are_those_that_the_features_stage_renders(isic: Path) -> None:
    files = sorted((isic / "images").iterdir())[:3]
    views = read_views(files, INFO, 64, tta=True)
    assert list(views) == files
    for file in files:
        warps = [draw_warp(INFO.augmentation, file.stem, view) for view in range(INFO.augmentation.views + 1)]
        assert np.array_equal(views[file], render_views(read_image(file), warps, 64))


def test_without_tta_there_is_the_image_alone(isic: Path) -> None:
    file = isic / "images/ISIC_0034528.jpg"
    views = read_views([file], INFO, 64, tta=False)[file]
    assert views.shape == (1, 64, 64, 3)
    assert np.array_equal(views, read_views([file], INFO, 64, tta=True)[file][:1])


def test_an_image_that_cannot_be_read_is_left_out_with_one_line(
    isic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, (empty,) = tmp_path / "good.jpg", make_files(tmp_path, "empty.jpg")
    shutil.copy(isic / "images/ISIC_0034528.jpg", good)
    assert list(read_views([empty, good, tmp_path / "missing.jpg"], INFO, 64, tta=False)) == [good]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {empty}: ")
    assert lines[1].startswith(f"error: {tmp_path / 'missing.jpg'}: ")
