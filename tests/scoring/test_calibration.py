"""Calibration: bins, error and temperature, against sums by hand and against what the data were drawn with."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from dermoscopy.scoring.calibration import apply_temperature, expected_calibration_error, fit_temperature, reliability
from dermoscopy.scoring.predictions import class_names, probabilities_of
from tests.support.prediction_tables import drawn_images, make_predictions


def spoilt(temperature: float, count: int = 4000) -> pd.DataFrame:
    """Return predictions whose labels are drawn from their probabilities, which are then sharpened or blunted."""
    random = np.random.default_rng(0)
    logits = 1.5 * random.normal(size=(count, 3))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (honest.cumsum(axis=1) < random.random((count, 1))).sum(axis=1)
    classes = ["bkl", "mel", "nv"]
    return apply_temperature(make_predictions([classes[i] for i in target], honest, classes), temperature)


def test_reliability_compares_confidence_and_accuracy_in_bins_of_equally_many_images() -> None:
    many = drawn_images(300)
    table = reliability(many, bins=10)
    assert list(table.columns) == ["confidence", "accuracy", "images"]
    assert table["images"].tolist() == [30] * 10
    confidence, correct = probabilities_of(many).max(axis=1), (many["label"] == many["predicted"]).to_numpy()
    order = np.argsort(confidence)
    assert np.allclose(table["confidence"], confidence[order].reshape(10, 30).mean(axis=1))
    assert np.allclose(table["accuracy"], correct[order].reshape(10, 30).mean(axis=1))


@pytest.mark.parametrize("right", [True, False])
def test_reliability_of_predictions_that_are_all_right_or_all_wrong(right: bool) -> None:
    labels = ["nv", "nv", "nv"] if right else ["mel", "mel", "mel"]
    table = reliability(make_predictions(labels, [[0.1, 0.9], [0.2, 0.8], [0, 1]], ["mel", "nv"]))
    assert set(table["accuracy"]) == {float(right)}


def test_images_of_equal_confidence_share_a_bin() -> None:
    table = reliability(make_predictions(["nv", "mel", "nv", "nv"], [[0.25, 0.75]] * 4, ["mel", "nv"]))
    assert table.to_numpy().tolist() == [[0.75, 0.75, 4]]


def test_the_calibration_error_is_that_computed_by_hand() -> None:
    # ten images, a bin each: confidence 0.55, 0.6, ... 1, every other one right
    confidence = np.linspace(0.55, 1, 10)
    labels = ["nv" if i % 2 else "mel" for i in range(10)]
    table = make_predictions(labels, np.stack([1 - confidence, confidence], axis=1), ["mel", "nv"])
    correct = np.arange(10) % 2
    assert expected_calibration_error(table) == pytest.approx(np.abs(correct - confidence).mean(), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.4, 1, 2.5])
def test_the_temperature_undoes_what_spoilt_the_calibration(temperature: float) -> None:
    table = spoilt(temperature)
    assert fit_temperature(table) == pytest.approx(1 / temperature, rel=0.07)
    calibrated = apply_temperature(table, fit_temperature(table))
    assert expected_calibration_error(calibrated) < 0.02
    if temperature != 1:
        assert expected_calibration_error(table) > 0.1


def test_no_other_temperature_has_a_lower_log_loss() -> None:
    table = drawn_images(500, skill=1)
    best = fit_temperature(table)

    def loss(temperature: float) -> float:
        return float(log_loss(table["label"], probabilities_of(apply_temperature(table, temperature))))

    assert loss(best) < min(loss(0.97 * best), loss(1.03 * best), loss(1))


def test_calibrated_probabilities_add_up_and_keep_the_most_probable_class() -> None:
    table = drawn_images(300)
    calibrated = probabilities_of(apply_temperature(table, 3.0))
    assert np.allclose(calibrated.sum(axis=1), 1)
    assert list(np.array(class_names(table))[calibrated.argmax(axis=1)]) == list(table["predicted"])


def test_temperature_1_changes_nothing() -> None:
    table = drawn_images(300)
    assert np.allclose(probabilities_of(apply_temperature(table, 1)), probabilities_of(table), atol=1e-7)


@pytest.mark.parametrize("right", [True, False])
def test_probabilities_of_0_and_1_give_a_finite_temperature(right: bool) -> None:
    labels = ["mel", "nv"] if right else ["nv", "mel"]
    table = make_predictions(labels, [[1, 0], [0, 1]], ["mel", "nv"])
    assert 0.05 <= fit_temperature(table) <= 20
    assert np.isfinite(probabilities_of(apply_temperature(table, fit_temperature(table)))).all()
