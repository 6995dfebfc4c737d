"""Scores and curves: a case computed by hand, scikit-learn's own words for the rest, and no NaN anywhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import classification_report, log_loss, roc_auc_score

from stages import evaluate as stage
from stages.common.errors import DataError
from stages.common.tables import read_table, write_table
from stages.evaluate import class_names, draw_confusion_matrix, precision_recall_curves, reliability, roc_curves, score
from tests.params_file import write_params

CLASSES = ["bkl", "mel", "nv"]
PLOTS = ["confusion_matrix.csv", "confusion_matrix.png", "precision_recall.csv", "reliability.csv", "roc.csv"]


def make_predictions(labels: list[str], probabilities: Any, classes: list[str], part: str = "test") -> pd.DataFrame:
    """Return a prediction table."""
    values = np.asarray(probabilities, np.float32)
    table = pd.DataFrame({"image_id": [f"{part}_{number}" for number in range(len(labels))], "part": part})
    table["label"] = labels
    table["predicted"] = np.array(classes)[values.argmax(axis=1)]
    return table.join(pd.DataFrame(values, columns=[f"p_{name}" for name in classes]))


@pytest.fixture
def by_hand() -> pd.DataFrame:
    """Eight images: of four nv one is taken for mel and one for bkl, of three mel one for nv; the one bkl is found."""
    return make_predictions(
        ["nv", "nv", "nv", "nv", "mel", "mel", "mel", "bkl"],
        [
            [0.1, 0.2, 0.7],
            [0.1, 0.3, 0.6],
            [0.1, 0.6, 0.3],
            [0.5, 0.1, 0.4],
            [0.1, 0.8, 0.1],
            [0.2, 0.5, 0.3],
            [0.0, 0.1, 0.9],
            [0.9, 0.05, 0.05],
        ],
        CLASSES,
    )


@pytest.fixture
def many() -> pd.DataFrame:
    """300 images of five classes, some rare, with predictions that are often right."""
    random = np.random.default_rng(0)
    classes = ["akiec", "bcc", "bkl", "mel", "nv"]
    target = random.choice(5, 300, p=[0.04, 0.06, 0.1, 0.2, 0.6])
    logits = random.normal(size=(300, 5)) + 2 * np.eye(5)[target]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return make_predictions([classes[number] for number in target], probabilities, classes)


def probabilities_of(predictions: pd.DataFrame) -> NDArray[np.float64]:
    return predictions[[f"p_{name}" for name in class_names(predictions)]].to_numpy(np.float64)


def numbers_in(value: object) -> list[object]:
    """Return everything in nested dicts and lists that is neither."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [number for item in inner for number in numbers_in(item)]
    return [value]


def test_classes_are_those_of_the_probability_columns(by_hand: pd.DataFrame) -> None:
    assert class_names(by_hand) == CLASSES


def test_scores_are_those_computed_by_hand(by_hand: pd.DataFrame) -> None:
    metrics: dict[str, Any] = score(by_hand, "test")
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


def test_scores_are_those_of_scikit_learn(many: pd.DataFrame) -> None:
    metrics: dict[str, Any] = score(many, "test")
    probabilities = probabilities_of(many)
    probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    report = classification_report(many["label"], many["predicted"], output_dict=True)
    assert metrics["accuracy"] == pytest.approx(report["accuracy"])
    assert metrics["balanced_accuracy"] == pytest.approx(report["macro avg"]["recall"])
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
    metrics: dict[str, Any] = score(many, "test")
    for name, values in metrics["per_class"].items():
        others = many[many["label"] != name]
        assert values["specificity"] == pytest.approx((others["predicted"] != name).mean())


def test_the_order_of_the_images_does_not_matter(many: pd.DataFrame) -> None:
    shuffled = many.sample(frac=1, random_state=1)
    original, again = numbers_in(score(many, "test")), numbers_in(score(shuffled, "test"))
    assert again == pytest.approx(original, rel=1e-12)


def test_a_class_never_predicted_has_precision_and_f1_0() -> None:
    predictions = make_predictions(["nv", "mel"], [[0.1, 0.9], [0.2, 0.8]], ["mel", "nv"])
    metrics: dict[str, Any] = score(predictions, "test")
    assert metrics["per_class"]["mel"] | {"auc": None} == {
        "precision": 0,
        "recall": 0,
        "specificity": 1,
        "f1": 0,
        "auc": None,
        "support": 1,
    }


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_what_cannot_be_computed_for_an_absent_class_is_null_with_a_warning(
    by_hand: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics: dict[str, Any] = score(by_hand[by_hand["label"] != "bkl"], "validation")
    assert metrics["per_class"]["bkl"]["recall"] is None
    assert metrics["per_class"]["bkl"]["auc"] is None
    assert metrics["per_class"]["bkl"]["support"] == 0
    assert metrics["macro_auc"] is None
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 2 / 4) / 2)
    assert json.dumps(metrics, allow_nan=False)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert warning.startswith("warning: no AUC in validation for bkl:")


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_a_part_of_a_single_class_of_several_is_scored(by_hand: pd.DataFrame) -> None:
    metrics: dict[str, Any] = score(by_hand[by_hand["label"] == "mel"], "test")
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["per_class"]["mel"]["specificity"] is None
    assert metrics["macro_auc"] is None


def test_roc_curves_run_from_corner_to_corner_and_enclose_the_auc(many: pd.DataFrame) -> None:
    curves = roc_curves(many)
    assert list(curves.columns) == ["label", "false_positive_rate", "true_positive_rate"]
    metrics: dict[str, Any] = score(many, "test")
    assert list(curves["label"].unique()) == class_names(many)
    for name, curve in curves.groupby("label"):
        rates = curve[["false_positive_rate", "true_positive_rate"]].to_numpy()
        assert rates[0].tolist() == [0, 0]
        assert rates[-1].tolist() == [1, 1]
        assert (np.diff(rates, axis=0) >= 0).all()
        assert np.trapezoid(rates[:, 1], rates[:, 0]) == pytest.approx(metrics["per_class"][name]["auc"])


def test_a_roc_curve_is_that_computed_by_hand(by_hand: pd.DataFrame) -> None:
    curve = roc_curves(by_hand).query("label == 'mel'")
    # by falling probability: mel, nv, mel, nv, nv, (mel, nv), bkl
    corners = [(0, 0), (0, 1 / 3), (1 / 5, 1 / 3), (1 / 5, 2 / 3), (3 / 5, 2 / 3), (4 / 5, 1), (1, 1)]
    assert np.allclose(curve[["false_positive_rate", "true_positive_rate"]], corners)


def test_precision_recall_curves_hold_the_precision_at_each_recall(by_hand: pd.DataFrame) -> None:
    curves = precision_recall_curves(by_hand)
    assert list(curves.columns) == ["label", "recall", "precision"]
    assert list(curves["label"].unique()) == CLASSES
    # by falling probability: mel, nv, mel, nv, nv, (mel, nv), bkl
    all_points = [(1, 3 / 8), (1, 3 / 7), (2 / 3, 2 / 5), (2 / 3, 2 / 4), (2 / 3, 2 / 3), (1 / 3, 1 / 2), (1 / 3, 1)]
    points = curves[curves["label"] == "mel"][["recall", "precision"]].to_numpy().tolist()
    assert points[-1] == [0, 1]
    assert all(any(point == pytest.approx(one) for one in all_points) for point in points[:-1])
    for needed in ((1, 3 / 7), (2 / 3, 2 / 3), (1 / 3, 1)):
        assert any(point == pytest.approx(needed) for point in points)


def test_an_absent_class_has_no_curves(by_hand: pd.DataFrame) -> None:
    without = by_hand[by_hand["label"] != "bkl"]
    assert set(roc_curves(without)["label"]) == {"mel", "nv"}
    assert set(precision_recall_curves(without)["label"]) == {"mel", "nv"}


def test_reliability_compares_confidence_and_accuracy_in_equal_bins(many: pd.DataFrame) -> None:
    table = reliability(many, bins=10)
    assert list(table.columns) == ["confidence", "accuracy"]
    assert len(table) == 10
    confidence, correct = probabilities_of(many).max(axis=1), many["label"] == many["predicted"]
    order = np.argsort(confidence)
    assert np.allclose(table["confidence"], confidence[order].reshape(10, 30).mean(axis=1), atol=0.01)
    assert table["confidence"].mean() == pytest.approx(confidence.mean(), abs=1e-6)
    assert table["accuracy"].mean() == pytest.approx(correct.mean())


@pytest.mark.parametrize("right", [True, False])
def test_reliability_of_predictions_that_are_all_right_or_all_wrong(right: bool) -> None:
    labels = ["nv", "nv", "nv"] if right else ["mel", "mel", "mel"]
    table = reliability(make_predictions(labels, [[0.1, 0.9], [0.2, 0.8], [0, 1]], ["mel", "nv"]))
    assert set(table["accuracy"]) == {float(right)}


def test_the_picture_has_the_same_bytes_twice_and_other_bytes_for_other_numbers(
    by_hand: pd.DataFrame, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, predictions in zip(paths, (by_hand, by_hand, by_hand[1:]), strict=True):
        draw_confusion_matrix(predictions, "test images", path)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other
    image = Image.open(paths[0])
    assert image.format == "PNG"
    assert min(image.size) > 400


class TestStage:
    """The stage as a whole, on prediction tables in files."""

    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: pd.DataFrame) -> Path:
        """Predictions for validation and test; with all views each image is taken for nv."""
        monkeypatch.chdir(tmp_path)
        both = pd.concat([many[:100].assign(part="validation"), many[100:]])
        write_table(both, Path("data/predictions.csv"))
        write_table(both.assign(predicted="nv"), Path("data/predictions_tta.csv"))
        return tmp_path

    def run_stage(self, project: Path, tta: bool) -> dict[str, Any]:
        write_params(project, {"evaluate": {"tta": tta}})
        stage.main()
        text = (project / "metrics/metrics.json").read_text(encoding="utf-8")
        return dict(json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")))

    def test_each_part_is_scored(self, project: Path, many: pd.DataFrame) -> None:
        metrics = self.run_stage(project, tta=False)
        assert list(metrics) == ["validation", "test"]
        assert metrics["validation"] == score(read_table(Path("data/predictions.csv"))[:100], "validation")
        assert (metrics["validation"]["support"], metrics["test"]["support"]) == (100, 200)
        assert sorted(path.name for path in (project / "plots").iterdir()) == PLOTS

    def test_tta_decides_which_predictions_are_scored(self, project: Path, many: pd.DataFrame) -> None:
        one_view, all_views = (self.run_stage(project, tta)["test"] for tta in (False, True))
        assert one_view["per_class"]["mel"]["recall"] > 0.5
        assert all_views["per_class"]["mel"]["recall"] == 0

    def test_the_plots_show_the_test_part(self, project: Path, many: pd.DataFrame) -> None:
        self.run_stage(project, tta=False)
        shown = read_table(Path("plots/confusion_matrix.csv"))
        assert shown.to_numpy().tolist() == many[100:][["label", "predicted"]].to_numpy().tolist()

    def test_without_a_test_part_the_plots_show_validation(self, project: Path, many: pd.DataFrame) -> None:
        write_table(many[:100].assign(part="validation"), Path("data/predictions.csv"))
        assert list(self.run_stage(project, tta=False)) == ["validation"]
        assert len(read_table(Path("plots/confusion_matrix.csv"))) == 100

    def test_the_same_predictions_give_the_same_bytes(self, project: Path) -> None:
        names = [Path("metrics/metrics.json"), *(Path("plots") / name for name in PLOTS)]
        self.run_stage(project, tta=False)
        first = [name.read_bytes() for name in names]
        self.run_stage(project, tta=False)
        assert [name.read_bytes() for name in names] == first

    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_a_class_that_is_absent_from_a_part_leaves_null_in_the_file(
        self, project: Path, many: pd.DataFrame
    ) -> None:
        write_table(many[many["label"] != "akiec"], Path("data/predictions.csv"))
        metrics = self.run_stage(project, tta=False)["test"]
        assert metrics["macro_auc"] is None
        assert metrics["per_class"]["akiec"]["auc"] is None

    def test_without_predictions_the_stage_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_params(tmp_path, {"evaluate": {"tta": True}})
        with pytest.raises(DataError, match=r"predictions_tta\.csv is missing"):
            stage.main()
        assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
