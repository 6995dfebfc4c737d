"""The external test: which images count, and the table for the challenge."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.groups import group_ids
from dermoscopy.data.tables import write_table
from dermoscopy.features.finetuned import FinetuningInfo, write_finetuning
from dermoscopy.model.classifier import Classifier
from dermoscopy.model.members import Member
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.paths import FINETUNED, MANIFEST
from tests.support.classifier_project import compute_features, write_classifier
from tests.support.clinical import make_encoder
from tests.support.params_file import PARAMS
from tests.support.photographs import write_photographs
from tests.support.prediction_tables import make_predictions
from tools.external import (
    ISIC_CLASSES,
    SUBMISSION_FORMAT,
    known_images,
    left_out,
    main,
    predict_external,
    read_images,
    submission,
    without_known,
)


@pytest.fixture
def predictions() -> pd.DataFrame:
    """Six images; the model knows mel, nv and scc, and one image is of none of them."""
    table = make_predictions(
        ["mel", "nv", "nv", "scc", "df", "nv"], [[0.7, 0.2, 0.1]] * 6, ["mel", "nv", "scc"], part="external"
    )
    ids = {"image_id": "ISIC_000000", "lesion_id": "HAM_000000"}
    table = table.assign(**{name: [f"{begin}{number}" for number in range(6)] for name, begin in ids.items()})
    return table.assign(sha256=[letter * 64 for letter in "abcdef"], group_id=group_ids(table))


def manifest(**changes: str) -> pd.DataFrame:
    """Return a project of one image."""
    images = pd.DataFrame([{"image_id": "ours", "lesion_id": "ours", "sha256": "0" * 64} | changes])
    return images.assign(group_id=group_ids(images))


@pytest.mark.parametrize(
    ("column", "value"), [("sha256", "b" * 64), ("image_id", "ISIC_0000001"), ("lesion_id", "HAM_0000001")]
)
def test_an_image_that_the_project_has_by_content_id_or_lesion_does_not_count(
    predictions: pd.DataFrame, column: str, value: str
) -> None:
    new = without_known(predictions, manifest(**{column: value}))
    assert list(new["image_id"]) == [f"ISIC_000000{number}" for number in (0, 2, 3, 4, 5)]
    assert len(without_known(predictions, manifest())) == 6


def test_an_image_that_the_project_of_one_of_several_models_has_does_not_count(
    predictions: pd.DataFrame, tmp_path: Path
) -> None:
    members = [Member(head=tmp_path / name, backbone=tmp_path / name) for name in ("first", "second")]
    for member, sha256 in zip(members, ("b" * 64, "e" * 64), strict=True):
        write_table(manifest(sha256=sha256), member.head / MANIFEST)
    new = without_known(predictions, pd.concat([known_images(member) for member in members]))
    assert list(new["image_id"]) == [f"ISIC_000000{number}" for number in (0, 2, 3, 5)]


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (MANIFEST, r"^second: data/manifest\.csv has no column image_id"),
        (FINETUNED / "finetuning.json", r"^second: models/finetuned/finetuning\.json cannot be read "),
        (None, r"^second: models/finetuned/tuned_on\.csv is missing"),
    ],
)
def test_known_images_that_cannot_be_read_are_one_line_with_their_model(
    tmp_path: Path, damaged: Path | None, message: str
) -> None:
    write_table(manifest(), tmp_path / MANIFEST)
    (tmp_path / FINETUNED).mkdir(parents=True)
    write_finetuning(FinetuningInfo(epochs=1, kept=1, layers=1), tmp_path / FINETUNED)
    if damaged:
        (tmp_path / damaged).write_text("damaged")
    with pytest.raises(PipelineError, match=message) as error:
        known_images(Member(name="second", head=tmp_path, backbone=tmp_path))
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize(
    "change", ["evaluate.prior_exponent=1", "evaluate.tta=false", "++evaluate.tta=true", "evaluate={tta: false}"]
)
def test_what_each_model_has_of_its_own_is_not_changed_for_all(
    change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["external", "images", "-S", "split.seed=1", "-S", change, "--models", "main"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "error: --models: each model has its own evaluate.tta and evaluate.prior_exponent" in capsys.readouterr().err


def test_small_numbers_are_ids_of_other_images_elsewhere(predictions: pd.DataFrame) -> None:
    numbered = predictions.assign(image_id=["1", "nv/1", "IMG_0001", "a", "PAT_12", "x"], lesion_id=list("123456"))
    numbered = numbered.assign(group_id=group_ids(numbered.assign(patient_id="7")))
    ours = pd.concat(
        [
            manifest(image_id=name, lesion_id=lesion, patient_id="7")
            for name, lesion in zip(numbered["image_id"], "123456", strict=True)
        ]
    )
    assert len(without_known(numbered, ours)) == 6


def test_a_reason_is_given_for_each_image_that_does_not_count(predictions: pd.DataFrame) -> None:
    new = predictions[1:]
    notes = left_out(predictions, new, new[new["label"] != "df"], "the data of the models")
    assert len(notes) == 3
    assert "submission.csv has no column for scc" in notes[0]
    assert notes[1] == "images left out, because the data of the models have their content, id, lesion or patient: 1"
    assert notes[2] == "images left out, because the model does not know their class: 1 df"
    known = predictions.drop(columns="p_scc")
    assert left_out(known, known, known, "") == []


def test_the_submission_has_the_challenges_seven_classes(predictions: pd.DataFrame) -> None:
    table = submission(predictions)
    assert list(table.columns) == ["image", *ISIC_CLASSES]
    assert list(table["image"]) == list(predictions["image_id"])
    assert table["MEL"].tolist() == predictions["p_mel"].tolist()
    assert (table[["BCC", "AKIEC", "BKL", "DF", "VASC"]] == 0).all(axis=None)


def test_every_number_of_the_submission_has_a_decimal_point_and_is_the_models(
    predictions: pd.DataFrame, tmp_path: Path
) -> None:
    given = predictions.assign(p_mel=np.array([0.1, 1, 0, 1e-12, 2 / 3, 0.25], np.float32))
    write_table(submission(given), tmp_path / "submission.csv", SUBMISSION_FORMAT)
    text = pd.read_csv(tmp_path / "submission.csv", dtype=str)
    assert text[ISIC_CLASSES].map(lambda number: "." in number).all(axis=None)
    written = pd.read_csv(tmp_path / "submission.csv")
    assert (written[ISIC_CLASSES].dtypes == np.float64).all()
    assert written["MEL"].astype(np.float32).tolist() == given["p_mel"].tolist()


def test_a_head_with_clinical_variables_takes_them_from_the_label_table(
    tmp_path: Path, backbones: dict[str, Path], keras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_photographs(tmp_path / "images", 3)
    features = compute_features(backbones["first"], files)
    encoder = make_encoder(age=(50, 15), sex=["female", "male"])
    write_classifier(tmp_path, backbones["first"], features.reshape(-1, features.shape[-1]), encoder)
    rows = [("nv", "20", "Male"), ("mel", "", "female"), ("nv", "80", "")]
    lines = [f"{file.stem},{','.join(row)}" for file, row in zip(files, rows, strict=True)]
    (tmp_path / "images/labels.csv").write_text("\n".join(["isic_id,diagnosis,age_approx,gender", *lines[::-1]]))
    monkeypatch.chdir(tmp_path)

    data = PARAMS.data.model_copy(update={"directory": str(tmp_path / "images"), "labels": None})
    predictions = predict_external(read_images(data), [Member(tta=PARAMS.evaluate.tta)])
    known = pd.DataFrame({"age": [20, np.nan, 80], "sex": ["male", "female", ""]})
    tta = PARAMS.evaluate.tta
    (expected,), (unknown,) = (list(Classifier().predict_files(files, tta, given)) for given in (known, None))
    found = predictions.filter(regex="^p_").to_numpy()
    assert list(predictions["image_id"]) == [file.stem for file in files]
    np.testing.assert_allclose(found, expected.table.filter(regex="^p_"), atol=1e-6)
    assert (np.abs(found - unknown.table.filter(regex="^p_")).max(axis=1) > 1e-3).all()
