"""Counts, missing values and identities."""

from typing import Any

import pandas as pd
import pytest

from dermoscopy.data.diagnoses import long_name
from dermoscopy.page.facts import (
    Count,
    Estimate,
    count_images,
    count_parts,
    data_version,
    diagnosed_by,
    estimate,
    run_identity,
)
from dermoscopy.scoring.metrics import ClassMetrics, Metrics, point_metrics
from tests.support.prediction_tables import eight_images


@pytest.fixture
def manifest() -> pd.DataFrame:
    rows = [("a", "nv", "l1"), ("b", "nv", "l1"), ("c", "nv", "l2"), ("d", "mel", "l3"), ("e", "mel", "l4")]
    table = pd.DataFrame(rows, columns=["image_id", "label", "lesion_id"])
    return table.assign(sha256=[letter * 64 for letter in "abcde"], path="somewhere")


def test_images_and_lesions_are_counted_by_class_and_part(manifest: pd.DataFrame) -> None:
    split = pd.DataFrame({"image_id": list("abcde"), "part": ["train", "train", "test", "train", "test"]})
    counts = count_parts(manifest, split)
    assert list(counts) == ["mel", "nv", None]
    assert list(counts[None]) == ["train", "test", None]
    assert counts["nv"]["train"] == Count(2, 1, None, 0)
    assert counts[None][None] == Count(5, 4, None, 0)


def test_a_class_that_a_part_lacks_counts_nothing_there(manifest: pd.DataFrame) -> None:
    split = pd.DataFrame({"image_id": list("abcde"), "part": ["train", "train", "test", "train", "train"]})
    assert count_parts(manifest, split)["mel"]["test"].images == 0


def test_a_class_may_be_called_as_the_sum_is(manifest: pd.DataFrame) -> None:
    split = pd.DataFrame({"image_id": list("abcde"), "part": "train"})
    counts = count_parts(manifest.replace({"label": {"mel": "in all"}}), split)
    assert [counts[label]["train"].images for label in ("in all", "nv", None)] == [2, 3, 5]


@pytest.mark.parametrize(
    ("lesions", "patients", "words"),
    [
        (["l1", "l1", "l2"], None, "3 images of 2 lesions"),
        (["l1", "l1", "l2"], ["p", "p", "p"], "3 images of 2 lesions of 1 patient"),
        (["", "", ""], ["p", "q", ""], "3 images of 2 patients, lesions unknown"),
        (["", "", ""], ["", "", ""], "3 images, lesions unknown"),
        (["l1", "", "l1"], None, "3 images of 1 lesion (1 of unknown lesion)"),
    ],
)
def test_only_lesions_and_patients_that_are_known_are_counted(
    lesions: list[str], patients: list[str] | None, words: str
) -> None:
    images = pd.DataFrame({"image_id": list("abc"), "lesion_id": lesions})
    assert str(count_images(images if patients is None else images.assign(patient_id=patients))) == words


def test_how_diagnoses_were_made_is_said_in_shares_where_it_is_known(manifest: pd.DataFrame) -> None:
    assert diagnosed_by(manifest) == diagnosed_by(manifest.assign(dx_type="")) == ""
    known = manifest.assign(dx_type=["histo", "follow_up", "histo", "", "histo"])
    assert diagnosed_by(known) == "histo 60 %, follow_up 20 %, unknown 20 %"


def class_metrics(**values: Any) -> ClassMetrics:
    """Return metrics of a class; those that are not given are as of a class with every metric at 0.25."""
    usual = dict.fromkeys(("precision", "recall", "specificity", "f1", "auc"), 0.25)
    return ClassMetrics(**{"support": 30, **usual, **values})


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        (class_metrics(f1=0.5, f1_ci=(0.4, 0.6)), "f1", Estimate(0.5, 0.4, 0.6, "")),
        (class_metrics(f1=0.5), "f1", Estimate(0.5, None, None, "")),
        (class_metrics(f1=0.5, f1_ci=None), "f1", Estimate(0.5, None, None, "")),
        (class_metrics(f1=0.0), "f1", Estimate(0.0, None, None, "")),
        (class_metrics(f1=None), "f1", Estimate(None, None, None, "undefined here")),
        (class_metrics(f1=None, support=1), "f1", Estimate(None, None, None, "too few images")),
        (point_metrics(eight_images()), "accuracy", Estimate(0.625, None, None, "")),
        (point_metrics(eight_images()), "ece_calibrated", Estimate(None, None, None, "not computed")),
        (None, "auc", Estimate(None, None, None, "not computed")),
    ],
)
def test_an_estimate_has_a_value_or_says_why_not(
    values: Metrics | ClassMetrics | None, name: str, expected: Estimate
) -> None:
    assert estimate(values, name) == expected


def test_the_data_version_is_that_of_ids_classes_and_contents_alone(manifest: pd.DataFrame) -> None:
    version = data_version(manifest)
    assert data_version(manifest.sample(frac=1, random_state=1)) == version
    assert data_version(manifest.assign(path="elsewhere")) == version
    for column in ("image_id", "label", "sha256"):
        changed = manifest.copy()
        changed.loc[0, column] = "other"
        assert data_version(changed) != version


def test_a_run_is_told_from_another_by_each_of_what_it_is_made_from() -> None:
    metrics, params = point_metrics(eight_images()), {"seed": 1}
    other = metrics.model_copy(update={"accuracy": 0.5})
    runs = [
        run_identity("v", "b", params, {"test": metrics}),
        run_identity("w", "b", params, {"test": metrics}),
        run_identity("v", "c", params, {"test": metrics}),
        run_identity("v", "b", {"seed": 2}, {"test": metrics}),
        run_identity("v", "b", params, {"test": other}),
        run_identity("v", "b", params, {"validation": metrics}),
    ]
    assert len(set(runs)) == len(runs)
    assert run_identity("v", "b", {"seed": 1}, {"test": point_metrics(eight_images())}) == runs[0]


def test_a_diagnosis_that_is_not_known_is_called_by_its_code() -> None:
    assert long_name("akiec") == "actinic keratoses and intraepithelial carcinoma"
    assert long_name("<b>") == "<b>"
