"""The classifier: what it reads, and that a new image is predicted as the images of the pipeline are."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.model import classifier
from dermoscopy.model.classifier import Classifier, image_files
from dermoscopy.model.head import load_head
from dermoscopy.model.members import Member
from dermoscopy.runtime.errors import DataError
from tests.support.classifier_project import CLASSES, PRIOR, compute_features, write_classifier
from tests.support.photographs import jpeg


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
    assert image_files([tmp_path]).files == images


def test_files_are_taken_as_they_are_in_the_order_given(tmp_path: Path) -> None:
    files = make_files(tmp_path, "z.jpg", "scan.dat", "a.jpg")
    assert image_files(files).files == files


def test_files_and_folders_may_be_mixed(tmp_path: Path) -> None:
    single, *others = make_files(tmp_path, "z.jpg", "folder/a.jpg", "folder/b.jpg")
    assert image_files([single, tmp_path / "folder"]).files == [single, *others]


def test_an_image_named_twice_is_found_once(tmp_path: Path) -> None:
    first, second = make_files(tmp_path, "a.jpg", "b.jpg")
    assert image_files([second, tmp_path, second]).files == [second, first]


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: this folder holds no image"):
        image_files([tmp_path / "empty"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five drawn photographs, JPEGs."""
    folder = tmp_path_factory.mktemp("photographs")
    paths = [folder / f"ISIC_{number}.jpg" for number in range(1, 6)]
    for number, path in enumerate(paths, start=1):
        path.write_bytes(jpeg(number))
    return paths


@pytest.fixture(scope="module")
def features(backbones: dict[str, Path], files: list[Path]) -> NDArray[np.float32]:
    return compute_features(backbones["first"], files)


@pytest.fixture(scope="module")
def trained(
    backbones: dict[str, Path], features: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project with a backbone and a head with random weights that tells images, and their views, apart."""
    folder = tmp_path_factory.mktemp("trained")
    write_classifier(folder, backbones["first"], features.reshape(-1, features.shape[-1]))
    return folder


@pytest.fixture
def project(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That project as the current folder."""
    monkeypatch.chdir(trained)
    return trained


@pytest.mark.parametrize("tta", [False, True])
def test_probabilities_are_those_of_the_features_stage_and_the_head(
    project: Path, files: list[Path], features: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, tta: bool
) -> None:
    monkeypatch.setattr(classifier, "FILES_AT_A_TIME", 2)
    of_views = load_head()[0].probabilities(features)
    expected = of_views.mean(axis=1) if tta else of_views[:, 0]

    blocks = list(Classifier().predict_files(files, tta))
    assert [len(block.table) for block in blocks] == [2, 2, 1]
    table = pd.concat([block.table for block in blocks])
    assert list(table.columns) == ["image", "predicted", "p_bkl", "p_mel", "p_nv"]
    assert list(table["image"]) == list(map(str, files))
    assert list(table["predicted"]) == list(np.array(CLASSES)[expected.argmax(axis=1)])
    assert np.allclose(table.filter(regex="^p_"), expected, atol=1e-5)
    assert np.abs(expected - (of_views[:, 0] if tta else of_views.mean(axis=1))).max() > 1e-3


def test_the_name_of_a_file_changes_no_probability(project: Path, files: list[Path], tmp_path: Path) -> None:
    copy = Path(shutil.copy(files[0], tmp_path / "another name.jpeg"))
    (predicted,) = Classifier().predict_files([files[0], copy], tta=True)
    first, second = predicted.table.filter(regex="^p_").to_numpy()
    assert np.array_equal(first, second)


def test_the_prior_exponent_decides_which_class_is_predicted(project: Path, files: list[Path]) -> None:
    classifiers = (Classifier([Member(prior_exponent=exponent)]) for exponent in (0, 1))
    (plain,), (adjusted,) = (list(classifier.predict_files(files, tta=False)) for classifier in classifiers)
    probabilities = plain.table.filter(regex="^p_")
    pd.testing.assert_frame_equal(adjusted.table.filter(regex="^p_"), probabilities)
    expected = np.array(CLASSES)[(probabilities.to_numpy() / PRIOR).argmax(axis=1)]
    assert list(adjusted.table["predicted"]) == list(expected)
    assert list(adjusted.table["predicted"]) != list(plain.table["predicted"])


def test_an_image_that_cannot_be_read_is_left_out_with_one_line(
    project: Path, files: list[Path], tmp_path: Path
) -> None:
    (empty,), missing, odd = make_files(tmp_path, "empty.jpg"), tmp_path / "missing.jpg", tmp_path / "a\nb.jpg"
    shutil.copy(files[0], odd)
    (predicted,) = Classifier().predict_files([empty, files[0], missing, odd], tta=False)
    assert list(predicted.table["image"]) == [str(files[0])]
    assert [line.partition(": ")[0] for line in predicted.unreadable] == [str(empty), str(missing), str(odd)]
    (none,) = Classifier().predict_files([empty], tta=False)
    assert list(none.table.columns) == list(predicted.table.columns)
    assert len(none.table) == 0
    assert none.unreadable == predicted.unreadable[:1]


def test_a_head_of_another_backbone_is_refused(
    trained: Path, backbones: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(backbones["weights"], tmp_path / "models/backbone")
    for name in ("head.npz", "head.json"):
        shutil.copy(trained / "models" / name, tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="was trained on another backbone"):
        Classifier()
