"""ROC curves, and precision over recall."""

import numpy as np
import pandas as pd
import pytest

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


def test_an_absent_class_has_no_curves(by_hand: pd.DataFrame) -> None:
    without = by_hand[by_hand["label"] != "bkl"]
    assert set(roc_curves(without)["label"]) == {"mel", "nv"}
    assert set(precision_recall_curves(without)["label"]) == {"mel", "nv"}
