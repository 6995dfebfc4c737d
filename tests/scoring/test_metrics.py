"""Metrics: a case computed by hand, scikit-learn's own words for the rest, and no NaN anywhere."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    classification_report,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from dermoscopy.data.tables import class_names, probabilities_of
from dermoscopy.scoring.metrics import point_metrics, score, screening_metrics, weighted_auc, weighted_metrics
from tests.support.prediction_tables import drawn_images, eight_images, make_predictions

MALIGNANT = ["akiec", "bcc", "mel"]


@pytest.fixture
def by_hand() -> pd.DataFrame:
    return eight_images()


@pytest.fixture
def many() -> pd.DataFrame:
    return drawn_images()


@pytest.fixture
def weights(many: pd.DataFrame) -> Any:
    """Five weightings: each image once, and four samples with replacement."""
    random = np.random.default_rng(1)
    samples = [np.bincount(random.integers(len(many), size=len(many)), minlength=len(many)) for _ in range(4)]
    return np.stack([np.ones(len(many)), *samples]).astype(np.float64)


def values_in(value: object) -> list[object]:
    """Return everything in nested dicts and lists that is neither."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for item in inner for number in values_in(item)]
    return [value]


def test_metrics_are_those_computed_by_hand(by_hand: pd.DataFrame) -> None:
    metrics = point_metrics(by_hand)
    f1 = {"bkl": 2 / 3, "mel": 2 / 3, "nv": 4 / 7}
    assert metrics["support"] == 8
    assert metrics["accuracy"] == 5 / 8
    assert metrics["balanced_accuracy"] == pytest.approx((1 + 2 / 3 + 2 / 4) / 3)
    assert metrics["macro_f1"] == pytest.approx(sum(f1.values()) / 3)
    assert metrics["weighted_f1"] == pytest.approx((f1["bkl"] + 3 * f1["mel"] + 4 * f1["nv"]) / 8)
    of_truth = [0.7, 0.6, 0.3, 0.4, 0.8, 0.5, 0.1, 0.9]
    assert metrics["log_loss"] == pytest.approx(-np.log(of_truth).mean(), rel=1e-6)
    expected = {
        "bkl": {"precision": 1 / 2, "recall": 1, "specificity": 6 / 7, "auc": 1, "support": 1},
        # of the 3 x 5 pairs of a mel and another image, four have the other one first, and one is a tie
        "mel": {"precision": 2 / 3, "recall": 2 / 3, "specificity": 4 / 5, "auc": 1 - 4.5 / 15, "support": 3},
        # of the 4 x 4 pairs of an nv and another image, four have the other one first, and one is a tie
        "nv": {"precision": 2 / 3, "recall": 2 / 4, "specificity": 3 / 4, "auc": 1 - 4.5 / 16, "support": 4},
    }
    for name, values in expected.items():
        assert metrics["per_class"][name] == pytest.approx(values | {"f1": f1[name]}), name
    assert metrics["macro_auc"] == pytest.approx(np.mean([values["auc"] for values in expected.values()]))


def test_metrics_are_those_of_scikit_learn(many: pd.DataFrame) -> None:
    metrics = point_metrics(many)
    probabilities = probabilities_of(many)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    report = classification_report(many["label"], many["predicted"], output_dict=True)
    assert metrics["accuracy"] == pytest.approx(report["accuracy"])
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(many["label"], many["predicted"]))
    assert metrics["macro_f1"] == pytest.approx(report["macro avg"]["f1-score"])
    assert metrics["weighted_f1"] == pytest.approx(report["weighted avg"]["f1-score"])
    assert metrics["macro_auc"] == pytest.approx(roc_auc_score(many["label"], probabilities, multi_class="ovr"))
    assert metrics["log_loss"] == pytest.approx(log_loss(many["label"], probabilities), rel=1e-6)
    for name, values in metrics["per_class"].items():
        assert values["precision"] == pytest.approx(report[name]["precision"])
        assert values["recall"] == pytest.approx(report[name]["recall"])
        assert values["f1"] == pytest.approx(report[name]["f1-score"])
        assert values["support"] == report[name]["support"]


def test_specificity_is_the_share_of_other_images_that_are_not_taken_for_the_class(many: pd.DataFrame) -> None:
    for name, values in point_metrics(many)["per_class"].items():
        others = many[many["label"] != name]
        assert values["specificity"] == pytest.approx((others["predicted"] != name).mean())


def test_a_class_never_predicted_has_precision_and_f1_0() -> None:
    predictions = make_predictions(["nv", "mel"], [[0.1, 0.9], [0.2, 0.8]], ["mel", "nv"])
    assert point_metrics(predictions)["per_class"]["mel"] | {"auc": None} == {
        "precision": 0,
        "recall": 0,
        "specificity": 1,
        "f1": 0,
        "auc": None,
        "support": 1,
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_means_are_over_the_classes_that_occur(by_hand: pd.DataFrame) -> None:
    without = by_hand[by_hand["label"] != "bkl"]
    metrics = point_metrics(without)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert metrics["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(without["label"], without["predicted"])
    )
    assert metrics["macro_f1"] == pytest.approx(
        f1_score(without["label"], without["predicted"], labels=["mel", "nv"], average="macro")
    )


def test_weighted_metrics_of_single_weights_are_the_metrics(many: pd.DataFrame, weights: Any) -> None:
    weighted, metrics = weighted_metrics(many)(weights), point_metrics(many)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc"):
        assert weighted[name].shape == (5,)
        assert weighted[name][0] == pytest.approx(metrics[name], rel=1e-12), name
    for name in ("recall", "specificity", "f1", "auc"):
        expected = [values[name] for values in metrics["per_class"].values()]
        assert weighted[name][0] == pytest.approx(expected, rel=1e-12), name


def test_weighted_metrics_are_those_of_scikit_learn_with_sample_weights(many: pd.DataFrame, weights: Any) -> None:
    weighted, classes = weighted_metrics(many)(weights), class_names(many)
    for i, weight in enumerate(weights):
        how: dict[str, Any] = {"sample_weight": weight}
        pair = (many["label"], many["predicted"])
        assert weighted["accuracy"][i] == pytest.approx(accuracy_score(*pair, **how))
        assert weighted["balanced_accuracy"][i] == pytest.approx(balanced_accuracy_score(*pair, **how))
        assert weighted["macro_f1"][i] == pytest.approx(f1_score(*pair, average="macro", **how))
        recall = recall_score(*pair, labels=classes, average=None, **how)
        f1 = f1_score(*pair, labels=classes, average=None, **how)
        assert np.allclose(weighted["recall"][i], recall)
        assert np.allclose(weighted["f1"][i], f1)
        for k, name in enumerate(classes):
            is_class, taken = many["label"] == name, many["predicted"] == name
            assert weighted["auc"][i, k] == pytest.approx(roc_auc_score(is_class, many[f"p_{name}"], **how))
            assert weighted["specificity"][i, k] == pytest.approx(recall_score(~is_class, ~taken, **how))
        assert weighted["macro_auc"][i] == pytest.approx(weighted["auc"][i].mean())


def test_weighted_auc_counts_ties_half_as_scikit_learn_does() -> None:
    table = drawn_images(400, seed=3, skill=1, digits=1)  # eleven different scores at most
    weights = np.random.default_rng(2).integers(0, 4, (6, 400)).astype(np.float64)
    positive = (table["label"] == "mel").to_numpy()
    assert table["p_mel"].nunique() <= 11
    found = weighted_auc(positive, table["p_mel"])(weights)
    expected = [roc_auc_score(positive, table["p_mel"], sample_weight=weight) for weight in weights]
    assert np.allclose(found, expected, rtol=1e-12)


def test_scores_that_are_all_equal_have_an_auc_of_one_half() -> None:
    assert weighted_auc(np.array([True, False, False]), np.ones(3))(np.array([[1.0, 2, 3]])).tolist() == [0.5]


def test_a_weighting_without_a_class_leaves_it_out_of_the_means(many: pd.DataFrame) -> None:
    present = (many["label"] != "akiec").to_numpy()
    weighted = weighted_metrics(many)(present[None].astype(np.float64))
    assert np.isnan([weighted[name][0, 0] for name in ("recall", "f1", "auc")]).all()
    assert weighted["specificity"][0, 0] == pytest.approx((many["predicted"] != "akiec")[present].mean())
    for mean, values in {"balanced_accuracy": "recall", "macro_f1": "f1", "macro_auc": "auc"}.items():
        assert weighted[mean][0] == pytest.approx(weighted[values][0, 1:].mean())


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

    @pytest.mark.parametrize("digits", [None, 1])
    def test_points_are_those_of_scikit_learns_roc_curve(self, digits: int | None) -> None:
        table = drawn_images(500, seed=5, skill=0.7, digits=digits)
        malignant = table["label"].isin(MALIGNANT).to_numpy()
        suspicion = table[["p_akiec", "p_bcc", "p_mel"]].to_numpy(np.float64).sum(axis=1)
        weights = np.random.default_rng(6).integers(0, 4, (5, 500)).astype(np.float64)
        found = screening_metrics(malignant, suspicion)(weights)
        for i, weight in enumerate(weights):
            alarms, hits, _ = roc_curve(malignant, suspicion, sample_weight=weight, drop_intermediate=False)
            assert found["auc"][i] == pytest.approx(roc_auc_score(malignant, suspicion, sample_weight=weight))
            for percent in (90, 95):
                share = percent / 100 - 1e-12
                sensitivity, specificity = hits[1 - alarms >= share].max(), (1 - alarms)[hits >= share].max()
                assert found[f"sensitivity_at_{percent}_specificity"][i] == pytest.approx(sensitivity)
                assert found[f"specificity_at_{percent}_sensitivity"][i] == pytest.approx(specificity)

    def test_the_suspicion_is_the_probability_of_the_malignant_classes_together(self, many: pd.DataFrame) -> None:
        screening = score(many, ["mel", "bcc"], seed=1)["screening"]
        malignant = many["label"].isin(["mel", "bcc"])
        assert screening["auc"] == pytest.approx(roc_auc_score(malignant, many["p_mel"] + many["p_bcc"]), abs=1e-6)
        assert (screening["malignant"], screening["benign"]) == (malignant.sum(), (~malignant).sum())


class TestScore:
    """Metrics with intervals and the reasons for what is missing."""

    def test_every_value_is_inside_its_interval(self, many: pd.DataFrame) -> None:
        metrics = score(many, MALIGNANT, seed=1)
        tables = [metrics, metrics["screening"], *metrics["per_class"].values()]
        intervals = [(table[name[:-3]], table[name], name) for table in tables for name in table if name[-3:] == "_ci"]
        assert len(intervals) == 4 + 5 + 5 * 4
        for value, (low, high), name in intervals:
            assert 0 <= low <= value <= high <= 1, name
        assert metrics["notes"] == []

    def test_the_order_of_the_images_does_not_matter(self, many: pd.DataFrame) -> None:
        shuffled = many.sample(frac=1, random_state=1)
        original, again = (values_in(score(table, MALIGNANT, seed=1)) for table in (many, shuffled))
        assert again == pytest.approx(original, rel=1e-9)

    def test_the_seed_decides_the_intervals_and_nothing_else(self, many: pd.DataFrame) -> None:
        first, again, other = (score(many, MALIGNANT, seed) for seed in (1, 1, 2))
        assert first == again
        assert first["accuracy"] == other["accuracy"]
        assert first["accuracy_ci"] != other["accuracy_ci"]

    def test_copies_of_an_image_within_a_lesion_narrow_no_interval(self, many: pd.DataFrame) -> None:
        alone, in_fives = (
            many.assign(lesion_id=many["image_id"]),
            pd.concat([many] * 5).assign(lesion_id=5 * [*many.image_id]),
        )
        widths = {}
        for name, table in {"alone": alone, "in fives": in_fives}.items():
            low, high = score(table, MALIGNANT, seed=1)["accuracy_ci"]
            widths[name] = high - low
        # five copies of an image are worth no more than one
        assert widths["in fives"] == pytest.approx(widths["alone"], rel=1e-9)

    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_an_absent_class_is_null_with_a_reason(self, by_hand: pd.DataFrame) -> None:
        metrics = score(by_hand[by_hand["label"] != "bkl"], ["mel"], seed=1)
        absent = metrics["per_class"]["bkl"]
        assert [absent[name] for name in ("recall", "auc", "recall_ci", "f1_ci", "auc_ci")] == [None] * 5
        assert absent["support"] == 0
        assert metrics["macro_auc"] is metrics["macro_auc_ci"] is None
        assert metrics["balanced_accuracy_ci"] is not None
        assert [note for note in metrics["notes"] if note.startswith("no recall, AUC or macro AUC for bkl: ")]
        assert json.dumps(metrics, allow_nan=False)

    def test_a_class_of_one_lesion_has_no_interval_with_a_reason(self, by_hand: pd.DataFrame) -> None:
        twice = pd.concat([by_hand, by_hand[by_hand["label"] == "bkl"]])  # two images, one lesion
        for table in (by_hand, twice):
            metrics = score(table, ["mel"], seed=1)
            rare = metrics["per_class"]["bkl"]
            assert (rare["recall"], rare["recall_ci"], rare["f1_ci"], rare["auc_ci"]) == (1, None, None, None)
            assert rare["specificity_ci"] is not None
            assert metrics["per_class"]["mel"]["recall_ci"] is not None
            assert [note for note in metrics["notes"] if note.startswith("no interval for bkl: one lesion only")]

    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_a_table_of_a_single_class_is_scored(self, by_hand: pd.DataFrame) -> None:
        metrics = score(by_hand[by_hand["label"] == "mel"], ["mel"], seed=1)
        assert metrics["accuracy"] == pytest.approx(2 / 3)
        assert metrics["per_class"]["mel"]["specificity"] is None
        assert metrics["per_class"]["mel"]["specificity_ci"] is None
        assert metrics["macro_auc"] is None
        assert metrics["screening"] is None
        assert "no screening metrics: all images or none are malignant" in metrics["notes"]
        assert json.dumps(metrics, allow_nan=False)

    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_a_single_image_is_scored_without_intervals(self, by_hand: pd.DataFrame) -> None:
        metrics = score(by_hand[:1], ["mel"], seed=1)
        assert metrics["accuracy"] == 1
        assert metrics["accuracy_ci"] is metrics["balanced_accuracy_ci"] is None
        assert json.dumps(metrics, allow_nan=False)

    def test_one_lesion_of_other_classes_gives_no_interval_with_a_reason(self) -> None:
        table = make_predictions(
            ["nv", "nv", "nv", "mel"], [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], ["mel", "nv"]
        )
        metrics = score(table, ["mel"], seed=1)
        assert metrics["per_class"]["nv"]["specificity"] == 1
        assert metrics["per_class"]["nv"]["specificity_ci"] is metrics["per_class"]["nv"]["auc_ci"] is None
        assert metrics["screening"]["auc_ci"] is None
        assert "no interval for specificity and AUC of nv: one lesion of other classes only" in metrics["notes"]
        assert "no interval for the screening metrics: one malignant or one benign lesion only" in metrics["notes"]

    def test_a_recall_of_1_is_said_to_have_an_interval_without_width(self, many: pd.DataFrame) -> None:
        perfect = many.assign(predicted=many["predicted"].mask(many["label"] == "bcc", "bcc"))
        metrics = score(perfect, MALIGNANT, seed=1)
        assert metrics["per_class"]["bcc"]["recall_ci"] == [1, 1]
        assert metrics["notes"] == ["recall of bcc is 0 or 1, where a bootstrap interval has no width: rely on n"]

    def test_a_malignant_class_that_the_model_does_not_know_is_named(self, many: pd.DataFrame) -> None:
        metrics = score(many, ["mel", "scc"], seed=1)
        assert metrics["screening"]["malignant"] == (many["label"] == "mel").sum()
        assert metrics["notes"] == ["evaluate.malignant names scc, and the model knows no such class"]

    def test_without_malignant_classes_there_is_no_screening(self, many: pd.DataFrame) -> None:
        metrics = score(many, [], seed=1)
        assert metrics["screening"] is None
        assert metrics["notes"] == ["no screening metrics: no class is named malignant"]
