"""What the page shows of an image is what `tools.predict` and the report say of it."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from apps.answers import SIDE, Answer, Answers
from apps.rendering import in_html
from dermoscopy.data.image_files import find_images
from dermoscopy.model.classifier import Classifier
from dermoscopy.model.members import Member
from dermoscopy.model.similar import SIMILAR
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from dermoscopy.scoring.calibration import Calibration, apply_calibration
from dermoscopy.scoring.metrics import read_metrics
from stages import evaluate, train
from tests.support.finished_run import PARAMS, run_stages
from tests.support.params_file import write_params


@pytest.fixture(scope="module")
def answers(finished: Path) -> Answers:
    with chdir(finished):
        return Answers(load_params())


@pytest.fixture(scope="module")
def images(finished: Path) -> list[Path]:
    return find_images(finished / "data/raw/images").files[:8]


def ask(answers: Answers, finished: Path, image: Path, **known: float | str) -> Answer:
    with chdir(finished):  # where the training images are
        return answers.answer(image.read_bytes(), image.name, known)


def test_class_and_calibrated_probabilities_are_those_of_the_pipeline(
    answers: Answers, finished: Path, images: list[Path]
) -> None:
    with chdir(finished):
        (predicted,) = Classifier([Member(load_params().evaluate.prior_exponent)]).predict_files(images, tta=True)
        scores = read_metrics()["test"]
    assert scores.temperature is not None
    assert scores.biases is not None
    calibrated = apply_calibration(predicted.table, Calibration(scores.temperature, scores.biases))
    for image, label, row in zip(
        images, predicted.table["predicted"], calibrated.filter(regex="^p_").to_numpy(), strict=True
    ):
        answer = ask(answers, finished, image)
        assert answer.predicted == label
        np.testing.assert_allclose(list(answer.probabilities.values()), row, atol=1e-5)
        assert answer.malignant == pytest.approx(sum(answer.probabilities[name] for name in answers.malignant))
    assert answers.malignant == ["akiec", "bcc", "mel"]
    assert answers.views == 2


def test_the_most_similar_images_are_training_images_with_their_pictures(
    answers: Answers, finished: Path, images: list[Path]
) -> None:
    split = pd.read_csv(finished / "data/split.csv", index_col="image_id")["part"]
    for image in images:
        answer = ask(answers, finished, image)
        found = [shown.similar for shown in answer.similar]
        assert len(found) == SIMILAR
        assert set(split[[similar.image_id for similar in found]]) == {"train"}
        assert (found[0].image_id == image.stem) == (split[image.stem] == "train")
        assert all(shown.picture is not None and shown.picture.shape[1] == 200 for shown in answer.similar)


def test_a_training_image_whose_file_is_gone_has_no_picture_and_the_answer_stays(
    finished: Path, tmp_path: Path, images: list[Path]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with chdir(tmp_path / "run"):
        answers = Answers(load_params())
        content = images[0].read_bytes()
        shutil.rmtree("data/raw")
        assert {shown.picture is None for shown in answers.answer(content, "a.jpg", {}).similar} == {True}
        assert Answers(load_params()).examples == []


def test_the_examples_are_of_each_class_and_were_not_learnt_from(answers: Answers, finished: Path) -> None:
    split = pd.read_csv(finished / "data/split.csv", index_col="image_id")["part"]
    assert {split[example.image_id] for example in answers.examples} == {"test"}
    assert {example.label for example in answers.examples} <= set(answers.classes)
    assert len({example.label for example in answers.examples}) > 3
    with chdir(finished):
        assert all(Path(example.path).is_file() for example in answers.examples)


def test_a_large_image_is_shown_smaller_in_its_proportions_and_so_are_the_maps(
    answers: Answers, finished: Path, images: list[Path]
) -> None:
    pixels = cv2.resize(np.asarray(cv2.imread(str(images[0]))), (2000, 1000))
    _, content = cv2.imencode(".png", pixels)
    with chdir(finished):
        answer = answers.answer(content.tobytes(), "wide.png", {})
    assert answer.picture.shape == (SIDE // 2, SIDE, 3)
    assert list(answer.heat) == answers.classes
    assert {picture.shape for picture in answer.heat.values()} == {(200, 400, 3)}


def test_of_a_network_with_one_place_for_all_there_are_no_maps(
    answers: Answers, finished: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answers._maps.maps
    monkeypatch.setattr(answers._maps, "maps", lambda image: whole(image).mean(axis=(0, 1), keepdims=True))
    answer = ask(answers, finished, images[0])
    assert answer.heat == {}
    assert "one cell for all of it" in in_html(answers, answer, None)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 a JPEG that ends"])
def test_what_is_no_image_is_one_line(answers: Answers, content: bytes) -> None:
    with pytest.raises(DataError, match=r"^photo\.jpg: .+") as raised:
        answers.answer(content, "photo.jpg", {})
    assert "\n" not in str(raised.value)


def test_many_who_ask_at_once_each_get_their_own_answer(answers: Answers, finished: Path, images: list[Path]) -> None:
    alone = [ask(answers, finished, image) for image in images]
    contents = [image.read_bytes() for image in images] * 4
    with chdir(finished), ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
        together = list(pool.map(lambda content: answers.answer(content, "photo", {}), contents))
    for one, other in zip(alone * 4, together, strict=True):
        assert one.probabilities == other.probabilities
        assert [shown.similar for shown in one.similar] == [shown.similar for shown in other.similar]


def test_where_the_head_uses_no_clinical_data_none_are_used(
    answers: Answers, finished: Path, images: list[Path]
) -> None:
    answer = ask(answers, finished, images[0], age=70.0, sex="male")
    assert answers.encoder is None
    assert answer.clinical == answer.image_only == {}
    assert answer.probabilities == ask(answers, finished, images[0]).probabilities


def test_what_is_known_of_the_patient_changes_the_answer_by_what_is_shown(
    finished: Path, tmp_path: Path, images: list[Path]
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    with chdir(tmp_path / "run"):
        write_params(Path(), PARAMS | {"train": {"epochs": 5, "clinical": ["age", "sex"]}, "evaluate": {"tta": False}})
        run_stages(Path(), [train, evaluate])
        answers = Answers(load_params())
        known = answers.answer(images[0].read_bytes(), "a", {"age": 80.0, "sex": "male"})
        unknown = answers.answer(images[0].read_bytes(), "a", {})
        nothing = answers.answer(images[0].read_bytes(), "a", {"sex": "unknown"})
        temperature = read_metrics()["test"].temperature
    assert answers.views == 1
    assert unknown.clinical == unknown.image_only == {}
    assert known.image_only == unknown.probabilities
    # the logits of a calibrated answer are divided by the temperature
    moved = np.log(list(known.probabilities.values())) - np.log(list(unknown.probabilities.values()))
    shown = np.array(list(known.clinical.values())) - np.array(list(nothing.clinical.values()))
    assert answers.encoder
    assert temperature
    assert np.allclose(moved - moved.mean(), shown / temperature, atol=1e-4)
