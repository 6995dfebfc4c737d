"""Calibration: bins, error and what is fitted, against sums by hand and against what the data were drawn with."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import log_loss

from dermoscopy.scoring.calibration import (
    STIFFNESS,
    Calibration,
    apply_calibration,
    ece_floor,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from dermoscopy.scoring.definitions import losses_of
from dermoscopy.scoring.predictions import class_names, probabilities_of
from tests.support.prediction_tables import drawn_images, make_predictions

CLASSES = ["bkl", "mel", "nv"]
EQUAL = [1, 1, 1]  # class weights


def spoilt(calibration: Calibration, count: int = 4000) -> pd.DataFrame:
    """Return predictions whose labels are drawn from their probabilities, which are then sharpened and shifted."""
    random = np.random.default_rng(0)
    logits = 1.5 * random.normal(size=(count, 3))
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (honest.cumsum(axis=1) < random.random((count, 1))).sum(axis=1)
    return apply_calibration(make_predictions([CLASSES[i] for i in target], honest, CLASSES), calibration)


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
@pytest.mark.parametrize("biases", [[0, 0, 0], [0.3, 0.1, -0.4]])
def test_what_is_fitted_undoes_what_spoilt_the_calibration(temperature: float, biases: list[float]) -> None:
    table = spoilt(Calibration(temperature, dict(zip(CLASSES, biases, strict=True))))
    found = fit_calibration(table, EQUAL)
    assert found.temperature == pytest.approx(1 / temperature, rel=0.07)
    # log p / T + b = logits, so b = -bias * temperature
    assert list(found.biases.values()) == pytest.approx([-temperature * bias for bias in biases], abs=0.15)
    calibrated = apply_calibration(table, found)
    assert expected_calibration_error(calibrated) < 0.025  # of 4,000 images perfectly calibrated ones show 0.016
    shares = table["label"].value_counts(normalize=True)[CLASSES]
    assert probabilities_of(calibrated).mean(axis=0) == pytest.approx(shares.to_numpy(), abs=0.005)
    if temperature != 1:
        assert expected_calibration_error(table) > 0.05


def balanced_by_weights(count: int) -> tuple[pd.DataFrame, list[float]]:
    """Return predictions of a rare, a frequent and a very frequent class as balanced weights make them, and these."""
    random = np.random.default_rng(1)
    shares = np.array([0.05, 0.15, 0.8])
    target = random.choice(3, count, p=shares)
    evidence = random.normal(size=(count, 3)) + 2 * np.eye(3)[target]
    likelihoods = np.exp(2 * evidence)  # of each class; with equal priors they are the probabilities
    probabilities = likelihoods / likelihoods.sum(axis=1, keepdims=True)
    return make_predictions([CLASSES[i] for i in target], probabilities, CLASSES), list(1 / shares / 3)


def test_class_weights_are_undone() -> None:
    table, weights = balanced_by_weights(6000)
    found = fit_calibration(table, weights)
    expected = -np.log(weights) + np.log(weights).mean()
    assert found.temperature == pytest.approx(1, abs=0.08)
    assert list(found.biases.values()) == pytest.approx(list(expected), abs=0.1)


def test_class_weights_that_are_known_need_few_images() -> None:
    table, weights = balanced_by_weights(1000)
    few, others = table[:30], table[30:]
    losses = [losses_of(apply_calibration(others, fit_calibration(few, known))).mean() for known in (weights, EQUAL)]
    assert losses[0] < losses[1] < losses_of(others).mean()


def test_no_other_calibration_has_a_lower_log_loss() -> None:
    table = drawn_images(500, skill=1)
    best = fit_calibration(table, [1] * len(class_names(table)))
    assert best.temperature != 1

    def loss(calibration: Calibration) -> float:
        penalty = STIFFNESS / 2 * sum(bias**2 for bias in calibration.biases.values()) / len(table)
        return float(log_loss(table["label"], probabilities_of(apply_calibration(table, calibration)))) + penalty

    others = [best._replace(temperature=factor * best.temperature) for factor in (0.97, 1.03)]
    others += [best._replace(biases=best.biases | {"mel": best.biases["mel"] + shift}) for shift in (-0.1, 0.1)]
    assert loss(best) < min(map(loss, others))


def test_calibrated_probabilities_add_up_and_the_decision_stays() -> None:
    table = drawn_images(300)
    names = class_names(table)
    calibrated = apply_calibration(
        table, Calibration(3.0, dict(zip(names, np.linspace(-2, 2, len(names)), strict=True)))
    )
    assert np.allclose(probabilities_of(calibrated).sum(axis=1), 1)
    assert list(calibrated["predicted"]) == list(table["predicted"])


def test_temperature_1_without_biases_changes_nothing() -> None:
    table = drawn_images(300)
    same = apply_calibration(table, Calibration(1, dict.fromkeys(class_names(table), 0.0)))
    assert np.allclose(probabilities_of(same), probabilities_of(table), atol=1e-7)


@pytest.mark.parametrize("right", [True, False])
def test_probabilities_of_0_and_1_give_a_finite_calibration(right: bool) -> None:
    labels = ["mel", "nv"] if right else ["nv", "mel"]
    table = make_predictions(labels, [[1, 0], [0, 1]], ["mel", "nv"])
    found = fit_calibration(table, [1, 1])
    assert 0.05 <= found.temperature <= 20
    assert np.isfinite(probabilities_of(apply_calibration(table, found))).all()


def test_a_class_without_images_becomes_rare_and_not_impossible() -> None:
    table = make_predictions(["mel", "nv"] * 20, [[0.3, 0.3, 0.4], [0.1, 0.2, 0.7]] * 20, CLASSES)
    calibrated = apply_calibration(table, fit_calibration(table, EQUAL))
    assert 0.01 < calibrated["p_bkl"].mean() < table["p_bkl"].mean() / 1.5


def test_reliability_is_of_the_likeliest_class_whatever_was_decided() -> None:
    table = drawn_images(300)
    pd.testing.assert_frame_equal(reliability(table.assign(predicted="nv")), reliability(table))


def test_the_floor_is_the_error_that_calibrated_predictions_show_on_average() -> None:
    random = np.random.default_rng(0)
    table = drawn_images(113)
    probabilities = probabilities_of(table)
    others = (probabilities.argmax(axis=1) + 1) % probabilities.shape[1]
    errors = []
    for _ in range(300):
        right = random.random(len(table)) < probabilities.max(axis=1)
        chosen = np.where(right, probabilities.argmax(axis=1), others)
        errors.append(expected_calibration_error(table.assign(label=np.array(class_names(table))[chosen])))
    assert ece_floor(table, seed=1) == pytest.approx(np.mean(errors), rel=0.03)
    assert 0.05 < ece_floor(table, seed=1) < 0.15


def test_the_floor_falls_with_the_number_of_images_and_does_not_depend_on_their_order() -> None:
    table = drawn_images(400)
    many = pd.concat([table] * 16)
    assert ece_floor(many, seed=1) == pytest.approx(ece_floor(table, seed=1) / 4, rel=0.1)
    assert ece_floor(table.sample(frac=1, random_state=1), seed=1) == ece_floor(table, seed=1)
    assert ece_floor(table, seed=1) != ece_floor(table, seed=2)


def test_the_floor_of_images_of_equal_confidence_is_that_of_one_bin() -> None:
    table = make_predictions(["nv"] * 4, [[0.25, 0.75]] * 4, ["mel", "nv"])
    # 4, 3, 2, 1 or 0 right of four: as far from 0.75 as their share
    expected = sum(binom.pmf(right, 4, 0.75) * abs(right / 4 - 0.75) for right in range(5))
    assert ece_floor(table, seed=1, draws=20_000) == pytest.approx(expected, rel=0.02)
