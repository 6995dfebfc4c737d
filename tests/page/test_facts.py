"""Counts, missing values and identities."""

from typing import Any

import pandas as pd
import pytest

from dermoscopy.page.diagnoses import long_name
from dermoscopy.page.facts import IN_ALL, Estimate, count_parts, data_version, estimate, run_identity
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
    assert list(counts.index) == ["mel", "nv", IN_ALL]
    assert list(counts.columns.get_level_values(0).unique()) == ["train", "test", IN_ALL]
    assert counts.loc["nv", ("train", "images")] == 2
    assert counts.loc["nv", ("train", "lesions")] == 1
    assert counts.loc[IN_ALL, (IN_ALL, "images")] == 5
    assert counts.loc[IN_ALL, (IN_ALL, "lesions")] == 4


def test_a_class_that_a_part_lacks_counts_nothing_there(manifest: pd.DataFrame) -> None:
    split = pd.DataFrame({"image_id": list("abcde"), "part": ["train", "train", "test", "train", "train"]})
    assert count_parts(manifest, split).loc["mel", ("test", "images")] == 0


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
