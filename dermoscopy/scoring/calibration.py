"""Calibration: whether a confidence of 0.8 is right in 8 of 10 images, and how to make it so."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from dermoscopy.scoring.bootstrap import CELLS, Floats
from dermoscopy.scoring.predictions import class_names, probabilities_of, targets_of, with_probabilities

BINS = 10
TEMPERATURES = (0.05, 20.0)
# Chosen among 1, 3, 10 and 30 on validation images of HAM10000 and of 755 of ISIC 2018.
STIFFNESS = 10.0


class Calibration(NamedTuple):
    """How probabilities are calibrated: log p / temperature + bias of the class, then softmax. Biases sum to 0."""

    temperature: float
    biases: dict[str, float]


def reliability(predictions: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Return `confidence, accuracy, images` of the likeliest class in bins of equally many images: means and number.

    Images of equal confidence share a bin, so there may be fewer and unequal bins.
    """
    probabilities = probabilities_of(predictions)
    confidence = probabilities.max(axis=1)
    correct = (probabilities.argmax(axis=1) == targets_of(predictions)).astype(np.float64)
    groups = pd.DataFrame({"confidence": confidence, "accuracy": correct}).groupby(_bin_of(confidence, bins))
    return groups.mean().assign(images=groups.size()).reset_index(drop=True)


def expected_calibration_error(predictions: pd.DataFrame) -> float:
    """Return the mean distance, 0 to 1, of confidence and accuracy over bins of equally many images.

    Of the likeliest class (Guo et al. 2017, arXiv:1706.04599), with bins of equal mass (Nixon et al. 2019,
    arXiv:1904.01685).
    """
    curve = reliability(predictions)
    return float(np.average((curve["confidence"] - curve["accuracy"]).abs(), weights=curve["images"]))


def fit_calibration(predictions: pd.DataFrame, class_weights: Sequence[float]) -> Calibration:
    """Return the calibration that gives these images the lowest log loss.

    Weights of w of a class in training make what is predicted proportional to w p, so p / w undoes them (Elkan 2001,
    The Foundations of Cost-Sensitive Learning, theorem 2). To that are fitted a temperature (Guo et al. 2017) and
    what each class still lacks, a bias (Alexandari et al. 2020, arXiv:1901.06852), which is held near 0 by a normal
    prior of variance 1 / STIFFNESS, so that few images do not make much of it. The loss is convex.

    Args:
        predictions: the table, of images that were not learnt from.
        class_weights: how much an image of each class counted in training, in the order of the table's classes.
    """
    from scipy.optimize import minimize  # a third of a second, which readers of metrics need not wait for

    undone = np.log(np.asarray(class_weights))
    logits, target = _logits(predictions) - undone, np.eye(len(undone))[targets_of(predictions)]

    def loss(point: Floats) -> tuple[float, Floats]:
        sharpness, lacking = point[0], point[1:]
        log_probabilities = log_softmax(sharpness * logits + lacking, axis=1)
        error = np.exp(log_probabilities) - target
        value = -(target * log_probabilities).sum() + STIFFNESS / 2 * lacking @ lacking
        slope = np.append((error * logits).sum(), error.sum(axis=0) + STIFFNESS * lacking)
        return value / len(target), slope / len(target)

    low, high = TEMPERATURES
    bounds = [(1 / high, 1 / low)] + [(None, None)] * len(undone)
    found = minimize(loss, np.append(1.0, np.zeros(len(undone))), jac=True, bounds=bounds, method="L-BFGS-B").x
    biases = found[1:] - found[0] * undone
    biases -= biases.mean()  # one and the same bias for all classes changes nothing
    return Calibration(float(1 / found[0]), dict(zip(class_names(predictions), map(float, biases), strict=True)))


def apply_calibration(predictions: pd.DataFrame, calibration: Calibration) -> pd.DataFrame:
    """Return the table with calibrated probabilities; `predicted` stays as it was decided."""
    biases = np.array([calibration.biases[name] for name in class_names(predictions)])
    return with_probabilities(predictions, softmax(_logits(predictions) / calibration.temperature + biases, axis=1))


def _logits(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Return logarithms; a probability that float32 rounded to 0 counts as its smallest normal number."""
    return np.log(np.maximum(probabilities_of(predictions), float(np.finfo(np.float32).tiny)))


def ece_floor(predictions: pd.DataFrame, seed: int, draws: int = 1000) -> float:
    """Return the expected calibration error that perfectly calibrated predictions of these confidences show on average.

    In each draw an image's likeliest class is right with exactly its probability. The error of so few images is not 0,
    because shares of right answers vary by chance; an error near this one is no sign of bad calibration ("consistency
    resampling" of Broecker and Smith 2007, Weather and Forecasting 22:651-661).
    """
    confidence = np.sort(probabilities_of(predictions).max(axis=1))
    first_of_bin = np.flatnonzero(np.diff(_bin_of(confidence, BINS), prepend=-1))
    random, block = np.random.default_rng(seed), max(1, CELLS // len(confidence))
    errors = []
    for start in range(0, draws, block):
        right = random.random((min(block, draws - start), len(confidence))) < confidence
        gaps = np.add.reduceat(right - confidence, first_of_bin, axis=1)
        errors.append(np.abs(gaps).sum(axis=1) / len(confidence))
    return float(np.concatenate(errors).mean())


def _bin_of(confidence: Floats, bins: int) -> NDArray[np.intp]:
    """Return the bin, (images,), of each confidence; bins are of equally many images but for equal confidences."""
    return np.searchsorted(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]), confidence)
