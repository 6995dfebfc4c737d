"""Calibration: whether a confidence of 0.8 is right in 8 of 10 images, and how to make it so."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax

from dermoscopy.scoring.predictions import class_names, probabilities_of

BINS = 10
TEMPERATURES = (0.05, 20.0)


def reliability(predictions: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Return `confidence, accuracy, images` of the predicted class in bins of equally many images: means and number.

    Images of equal confidence share a bin, so there may be fewer and unequal bins.
    """
    confidence = probabilities_of(predictions).max(axis=1)
    correct = (predictions["label"] == predictions["predicted"]).to_numpy(np.float64)
    edges = np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1])
    groups = pd.DataFrame({"confidence": confidence, "accuracy": correct}).groupby(np.searchsorted(edges, confidence))
    return groups.mean().assign(images=groups.size()).reset_index(drop=True)


def expected_calibration_error(predictions: pd.DataFrame) -> float:
    """Return the mean distance, 0 to 1, of confidence and accuracy over bins of equally many images.

    Of the predicted class (Guo et al. 2017, arXiv:1706.04599), with bins of equal mass (Nixon et al. 2019,
    arXiv:1904.01685).
    """
    curve = reliability(predictions)
    return float(np.average((curve["confidence"] - curve["accuracy"]).abs(), weights=curve["images"]))


def fit_temperature(predictions: pd.DataFrame) -> float:
    """Return the temperature, 0.05 to 20, that gives these images the lowest log loss (Guo et al. 2017).

    The logarithms of the probabilities serve as logits, which a mean over views does not have.
    """
    from scipy.optimize import minimize_scalar  # a third of a second, which readers of metrics need not wait for

    logits = _logits(predictions)
    target = pd.Index(class_names(predictions)).get_indexer(pd.Index(predictions["label"]))

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-log_probabilities[np.arange(len(target)), target].mean())

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x))


def apply_temperature(predictions: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Return the table with calibrated probabilities; which class is the most probable does not change."""
    calibrated = np.exp(log_softmax(_logits(predictions) / temperature, axis=1))
    return predictions.assign(**{f"p_{name}": calibrated[:, i] for i, name in enumerate(class_names(predictions))})


def _logits(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Return logarithms; a probability that float32 rounded to 0 counts as its smallest normal number."""
    return np.log(np.maximum(probabilities_of(predictions), float(np.finfo(np.float32).tiny)))
