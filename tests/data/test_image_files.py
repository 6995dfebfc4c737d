"""Which files of a folder are photographs, through links too."""

import os
from pathlib import Path

import pytest

from dermoscopy.data.image_files import find_images, is_image


@pytest.mark.parametrize(
    "name", ["a.jpg", "A.JPG", "b.jpeg", "ISIC_1_downsampled.png", "皮膚.tiff", "mask of zorro.bmp"]
)
def test_a_photograph_is_known_by_its_suffix(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize(
    "name",
    [
        *("._a.jpg", ".hidden.png", "Thumbs.db", ".DS_Store", "labels.csv", "a.jpg.txt", "noname"),
        *("ISIC_1_segmentation.png", "ISIC_1_Segmentation.PNG", "x_mask.png", "ISIC_1_superpixels.png"),
        "ISIC_1_attribute_globules.png",
    ],
)
def test_masks_and_leftovers_of_systems_are_none(name: str) -> None:
    assert not is_image(name)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_images_of_subfolders_are_found_but_not_what_systems_leave_there(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/c.png", "@eaDir/b.jpg", "a/@eaDir/c.png/SYNO.jpg", "__MACOSX/b.jpg", ".git/x.png")
    assert find_images(tmp_path) == ([tmp_path / "a/c.png", tmp_path / "b.jpg"], [], [])


def test_links_to_files_and_folders_and_chains_of_them_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "far", "one.jpg", "deep/two.jpg", "three.jpg")
    folder = tmp_path / "linked"
    folder.mkdir()
    (folder / "file.jpg").symlink_to(tmp_path / "far/one.jpg")
    (tmp_path / "hop").symlink_to(tmp_path / "far/deep")
    (folder / "folder").symlink_to(tmp_path / "hop")
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")  # named by whoever reads it
    (tmp_path / "itself").symlink_to(folder)
    files = [folder / "file.jpg", folder / "folder/two.jpg", folder / "gone.jpg"]
    assert find_images(folder) == (files, [], [])
    assert [path.name for path in find_images(tmp_path / "itself").files] == ["file.jpg", "two.jpg", "gone.jpg"]


def test_a_pipe_is_none_and_pictures_in_other_formats_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "one.jpg", "two.heic", "._three.heic")
    os.mkfifo(tmp_path / "pipe.png")
    assert find_images(tmp_path) == ([tmp_path / "one.jpg"], [], [tmp_path / "two.heic"])


def test_a_link_that_leads_back_is_named_and_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/one.jpg")
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    (tmp_path / "round.jpg").symlink_to(tmp_path / "round.jpg")
    found = find_images(tmp_path)
    assert found.files == [tmp_path / "a/b/one.jpg", tmp_path / "round.jpg"]
    assert found.loops == [tmp_path / "a/b/up"]
