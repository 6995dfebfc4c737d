"""The definitions of all metrics: a case computed by hand, and scikit-learn for weightings of many images."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from dermoscopy.scoring.definitions import (
    area_under_roc,
    classification_metrics,
    count_metrics,
    losses_of,
    screening_metrics,
)
from dermoscopy.scoring.predictions import class_names, probabilities_of
from tests.support.prediction_tables import drawn_images, eight_images, make_predictions

Floats = NDArray[np.float64]

TABLES = {
    "probabilities that differ": drawn_images(),
    "probabilities with ties and zeros": drawn_images(seed=3, skill=1, digits=1),
}
WEIGHTINGS = ["each image once", "a sample", "another sample", "a sample without akiec", "a sample of mel and nv"]


def weightings_of(table: pd.DataFrame) -> Floats:
    """Return the weightings named in WEIGHTINGS, (5, images): how often each image counts."""
    random = np.random.default_rng(1)
    samples = [np.bincount(random.integers(len(table), size=len(table)), minlength=len(table)) for _ in range(4)]
    samples[2] *= (table["label"] != "akiec").to_numpy()
    samples[3] *= table["label"].isin(["mel", "nv"]).to_numpy()
    return np.stack([np.ones(len(table)), *samples]).astype(np.float64)


@pytest.fixture(params=TABLES)
def table(request: pytest.FixtureRequest) -> pd.DataFrame:
    return TABLES[request.param]


def repeated(table: pd.DataFrame, weights: Floats) -> pd.DataFrame:
    """Return the table in which each image stands as often as its weight says."""
    return table.loc[table.index.repeat(weights.astype(int))]


def by_scikit_learn(table: pd.DataFrame) -> dict[str, Any]:
    """Return every metric of a prediction table as scikit-learn computes it; NaN for a class without its images."""
    classes, label, predicted = class_names(table), table["label"], table["predicted"]
    present = [name for name in classes if (label == name).any()]
    probabilities = probabilities_of(table)
    metrics: dict[str, Any] = {
        "accuracy": accuracy_score(label, predicted),
        "balanced_accuracy": balanced_accuracy_score(label, predicted),
        "macro_f1": f1_score(label, predicted, labels=present, average="macro"),
        "weighted_f1": f1_score(label, predicted, labels=present, average="weighted"),
        "precision": precision_score(label, predicted, labels=classes, average=None, zero_division=0),
        "recall": recall_score(label, predicted, labels=classes, average=None, zero_division=np.nan),
        "log_loss": log_loss(label, probabilities / probabilities.sum(axis=1, keepdims=True), labels=classes),
        "specificity": [],
        "f1": [],
        "auc": [],
    }
    for name in classes:
        of_class, taken = label == name, predicted == name
        metrics["specificity"].append(recall_score(~of_class, ~taken, zero_division=np.nan))
        metrics["f1"].append(f1_score(of_class, taken) if name in present else np.nan)
        metrics["auc"].append(roc_auc_score(of_class, table[f"p_{name}"]) if name in present else np.nan)
    metrics["macro_auc"] = np.nanmean(metrics["auc"])
    return metrics


def test_metrics_are_those_computed_by_hand() -> None:
    found = {name: values[0] for name, values in classification_metrics(eight_images())(np.ones((1, 8))).items()}
    f1 = [2 / 3, 2 / 3, 4 / 7]
    of_truth = [0.7, 0.6, 0.3, 0.4, 0.8, 0.5, 0.1, 0.9]
    # of the 3 x 5 pairs of a mel and another image, four have the other one first, and one is a tie;
    # of the 4 x 4 pairs of an nv and another image, too
    auc = [1, 1 - 4.5 / 15, 1 - 4.5 / 16]
    expected: dict[str, Any] = {
        "accuracy": 5 / 8,
        "balanced_accuracy": (1 + 2 / 3 + 2 / 4) / 3,
        "macro_f1": sum(f1) / 3,
        "weighted_f1": (f1[0] + 3 * f1[1] + 4 * f1[2]) / 8,
        "macro_auc": sum(auc) / 3,
        "log_loss": -np.log(of_truth).mean(),
        # bkl, mel, nv
        "precision": [1 / 2, 2 / 3, 2 / 3],
        "recall": [1, 2 / 3, 2 / 4],
        "specificity": [6 / 7, 4 / 5, 3 / 4],
        "f1": f1,
        "auc": auc,
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6), name


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_an_image_of_weight_w_counts_as_w_images_do_in_scikit_learn(table: pd.DataFrame, weighting: str) -> None:
    number = WEIGHTINGS.index(weighting)
    weights = weightings_of(table)
    expected = by_scikit_learn(repeated(table, weights[number]))
    found = classification_metrics(table)(weights)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name][number] == pytest.approx(value, rel=1e-9, nan_ok=True), name


def test_macro_auc_is_the_mean_of_one_class_against_the_rest() -> None:
    table = drawn_images()
    probabilities = probabilities_of(table)
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    expected = roc_auc_score(table["label"], shares, multi_class="ovr")
    assert classification_metrics(table)(np.ones((1, 300)))["macro_auc"] == pytest.approx(expected, abs=1e-6)


def test_a_class_that_is_all_images_has_no_specificity_and_no_auc() -> None:
    table = make_predictions(["nv", "nv"], [[0.1, 0.9], [0.8, 0.2]], ["mel", "nv"])
    found = classification_metrics(table)(np.ones((1, 2)))
    assert np.isnan([found["specificity"][0, 1], found["auc"][0, 1], found["macro_auc"][0]]).all()
    assert found["recall"][0, 1] == 0.5


def test_a_class_that_is_never_predicted_has_a_precision_and_an_f1_of_0() -> None:
    table = make_predictions(["nv", "mel"], [[0.1, 0.9], [0.2, 0.8]], ["mel", "nv"])
    found = count_metrics(table)(np.ones((1, 2)))
    assert (found["precision"][0, 0], found["recall"][0, 0], found["f1"][0, 0]) == (0, 0, 0)
    assert found["specificity"][0, 0] == 1


def test_many_weightings_at_once_give_what_each_gives_alone(table: pd.DataFrame) -> None:
    metrics, weights = classification_metrics(table), weightings_of(table)
    together, alone = metrics(weights), [metrics(weights[number : number + 1]) for number in range(len(weights))]
    for name, values in together.items():
        assert np.array_equal(values, np.concatenate([one[name] for one in alone]), equal_nan=True), name


def test_the_loss_of_an_image_is_finite_even_where_its_class_had_probability_0() -> None:
    losses = losses_of(make_predictions(["nv", "mel", "mel"], [[1, 0], [1, 0], [0.5, 0.25]], ["mel", "nv"]))
    assert losses == pytest.approx([-np.log(np.finfo(np.float64).eps), 0, -np.log(2 / 3)])


def test_scores_that_are_all_equal_have_an_auc_of_one_half() -> None:
    assert area_under_roc(np.array([True, False, False]), np.ones(3))(np.array([[1.0, 2, 3]])).tolist() == [0.5]


class TestScreening:
    """Malignant against benign."""

    def test_a_case_by_hand(self) -> None:
        # by falling suspicion: malignant, benign, (malignant, benign), malignant, eight benign
        malignant = np.array([1, 0, 1, 0, 1, *[0] * 8], bool)
        suspicion = np.array([0.9, 0.8, 0.7, 0.7, 0.6, *np.linspace(0.5, 0.1, 8)])
        found = {name: value[0] for name, value in screening_metrics(malignant, suspicion)(np.ones((1, 13))).items()}
        assert found["auc"] == pytest.approx((10 + 8.5 + 8) / 30)
        assert found["sensitivity_at_90_specificity"] == pytest.approx(1 / 3)  # one false alarm of ten: above 0.7
        assert found["sensitivity_at_95_specificity"] == pytest.approx(1 / 3)  # none: above 0.8
        assert found["specificity_at_90_sensitivity"] == pytest.approx(8 / 10)
        assert found["specificity_at_95_sensitivity"] == pytest.approx(8 / 10)

    def test_ten_percent_of_ten_is_one(self) -> None:
        malignant = np.array([0, 1, *[0] * 9], bool)
        found = screening_metrics(malignant, -np.arange(11.0))(np.ones((1, 11)))
        assert found["sensitivity_at_90_specificity"].tolist() == [1]
        assert found["sensitivity_at_95_specificity"].tolist() == [0]

    def test_a_weighting_without_malignant_images_has_no_screening_metrics(self) -> None:
        malignant = np.array([True, False, False])
        found = screening_metrics(malignant, np.array([0.9, 0.2, 0.1]))(np.array([[1.0, 1, 1], [0, 2, 1]]))
        assert all(values[0] == 1 and np.isnan(values[1]) for values in found.values()), found

    @pytest.mark.parametrize("digits", [None, 1])
    def test_points_are_those_of_scikit_learns_roc_curve(self, digits: int | None) -> None:
        table = drawn_images(500, seed=5, skill=0.7, digits=digits)
        malignant = table["label"].isin(["akiec", "bcc", "mel"]).to_numpy()
        suspicion = table[["p_akiec", "p_bcc", "p_mel"]].to_numpy(np.float64).sum(axis=1)
        weights = np.random.default_rng(6).integers(0, 4, (5, 500))
        found = screening_metrics(malignant, suspicion)(weights.astype(np.float64))
        for i, weight in enumerate(weights):
            images = malignant.repeat(weight), suspicion.repeat(weight)
            alarms, hits, _ = roc_curve(*images, drop_intermediate=False)
            assert found["auc"][i] == pytest.approx(roc_auc_score(*images))
            for percent in (90, 95):
                share = percent / 100 - 1e-12
                sensitivity, specificity = hits[1 - alarms >= share].max(), (1 - alarms)[hits >= share].max()
                assert found[f"sensitivity_at_{percent}_specificity"][i] == pytest.approx(sensitivity)
                assert found[f"specificity_at_{percent}_sensitivity"][i] == pytest.approx(specificity)
