"""ROC curves, and precision over recall."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import average_precision_score

from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.curves import precision_recall_curves, roc_curves
from dermoscopy.scoring.metrics import point_metrics
from tests.support.prediction_tables import drawn_images, eight_images

CLASSES = ["bkl", "mel", "nv"]


@pytest.fixture
def by_hand() -> pd.DataFrame:
    """Eight images; by falling probability of mel they are mel, nv, mel, nv, nv, (mel, nv), bkl."""
    return eight_images()


def test_roc_curves_run_from_corner_to_corner_and_enclose_the_auc() -> None:
    many = drawn_images()
    curves = roc_curves(many)
    assert list(curves.columns) == ["label", "false_positive_rate", "true_positive_rate"]
    per_class = point_metrics(many).per_class
    assert list(curves["label"].unique()) == list(per_class)
    for name, curve in curves.groupby("label"):
        rates = curve[["false_positive_rate", "true_positive_rate"]].to_numpy()
        assert rates[0].tolist() == [0, 0]
        assert rates[-1].tolist() == [1, 1]
        assert (np.diff(rates, axis=0) >= 0).all()
        assert np.trapezoid(rates[:, 1], rates[:, 0]) == pytest.approx(per_class[str(name)].auc)


def test_a_roc_curve_is_that_computed_by_hand(by_hand: pd.DataFrame) -> None:
    curve = roc_curves(by_hand).query("label == 'mel'")
    corners = [(0, 0), (0, 1 / 3), (1 / 5, 1 / 3), (1 / 5, 2 / 3), (3 / 5, 2 / 3), (4 / 5, 1), (1, 1)]
    assert np.allclose(curve[["false_positive_rate", "true_positive_rate"]], corners)


def test_precision_recall_curves_hold_the_precision_at_each_recall(by_hand: pd.DataFrame) -> None:
    curves = precision_recall_curves(by_hand)
    assert list(curves.columns) == ["label", "recall", "precision"]
    assert list(curves["label"].unique()) == CLASSES
    all_points = [(1, 3 / 8), (1, 3 / 7), (2 / 3, 2 / 5), (2 / 3, 2 / 4), (2 / 3, 2 / 3), (1 / 3, 1 / 2), (1 / 3, 1)]
    points = curves[curves["label"] == "mel"][["recall", "precision"]].to_numpy().tolist()
    assert points[-1] == [0, 1]
    assert all(any(point == pytest.approx(one) for one in all_points) for point in points[:-1])
    for needed in ((1, 3 / 7), (2 / 3, 2 / 3), (1 / 3, 1)):
        assert any(point == pytest.approx(needed) for point in points)


def test_no_line_of_a_roc_curve_is_slanted_unless_probabilities_are_equal() -> None:
    def slanted(predictions: pd.DataFrame) -> int:
        curves = roc_curves(predictions)
        steps = [(np.diff(curve.iloc[:, 1:], axis=0) != 0).all(axis=1) for _, curve in curves.groupby("label")]
        return int(np.concatenate(steps).sum())

    assert slanted(drawn_images()) == 0
    assert slanted(drawn_images(digits=1)) > 0


@pytest.mark.parametrize("digits", [None, 1], ids=["all different", "many equal"])
def test_steps_along_recall_and_then_precision_enclose_the_average_precision(digits: int | None) -> None:
    images = drawn_images(digits=digits)
    for name, curve in precision_recall_curves(images).groupby("label"):
        recall, precision = curve["recall"].to_numpy(), curve["precision"].to_numpy()
        assert (np.diff(recall) <= 0).all()
        expected = average_precision_score(images["label"] == name, images[f"p_{name}"])
        assert -np.diff(recall) @ precision[:-1] == pytest.approx(expected)


def read_template(name: str) -> dict[str, Any]:
    template: dict[str, Any] = json.loads((PROJECT / f".dvc/plots/{name}.json").read_text(encoding="utf-8"))
    return template


def test_dvc_draws_each_curve_as_its_rows_mean_it() -> None:
    stages = YAML(typ="safe", pure=True).load(PROJECT / "dvc.yaml")["stages"]
    template = {path: plot[path]["template"] for plot in stages["evaluate"]["plots"] for path in plot if "csv" in path}
    roc, steps = (read_template(template[f"plots/{name}.csv"]) for name in ("roc", "precision_recall"))
    assert steps["spec"]["mark"].pop("interpolate") == "step-after"
    assert steps == roc
    assert roc["spec"]["encoding"]["order"] == {"value": None}  # as the rows stand, not by x


def test_an_absent_class_has_no_curves(by_hand: pd.DataFrame) -> None:
    without = by_hand[by_hand["label"] != "bkl"]
    assert set(roc_curves(without)["label"]) == {"mel", "nv"}
    assert set(precision_recall_curves(without)["label"]) == {"mel", "nv"}
