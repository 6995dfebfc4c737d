"""Every metric, defined once: of many weightings of the images at once, which is what the bootstrap needs.

An image of weight w counts as w images, so the metrics of a table are those of the weights 1. A value that a weighting
does not define, such as the recall of a class that it leaves out, is NaN, and means are over the other classes.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.scoring.bootstrap import Floats, Statistic
from dermoscopy.scoring.predictions import class_names, probabilities_of, targets_of

SCREENING_PERCENTS = (90, 95)


def classification_metrics(predictions: pd.DataFrame) -> Statistic:
    """Return what computes the metrics of a prediction table, of n weightings, (n, images).

    Returns:
        A function that returns what `count_metrics` computes and `macro_auc`, `log_loss`, (n,), and `auc`,
        (n, classes). AUC is one class against the rest; macro AUC is the mean over the classes that have one. What
        does not depend on the weights is computed here, once.
    """
    counts = count_metrics(predictions)
    label = predictions["label"]
    aucs = [area_under_roc((label == name).to_numpy(), predictions[f"p_{name}"]) for name in class_names(predictions)]
    losses = losses_of(predictions)

    def statistic(weights: Floats) -> dict[str, Floats]:
        auc = np.stack([auc(weights) for auc in aucs], axis=1)
        of_probabilities = {
            "auc": auc,
            "macro_auc": _mean_of_defined(auc),
            "log_loss": (weights * losses).sum(axis=1) / weights.sum(axis=1),
        }
        return counts(weights) | of_probabilities

    return statistic


def count_metrics(predictions: pd.DataFrame) -> Statistic:
    """Return what computes the metrics that count images, and need no probabilities.

    Balanced accuracy is the mean recall of the classes that occur, the metric of the ISIC 2018 challenge's Task 3
    (Codella et al. 2019, arXiv:1902.03368); macro F1 is the mean over the same classes, weighted F1 weighs them by
    images. The precision of a class that is never predicted is 0, as with scikit-learn's zero_division=0.

    Returns:
        A function that returns `accuracy`, `balanced_accuracy`, `macro_f1`, `weighted_f1`, (n,), and `precision`,
        `recall`, `specificity`, `f1`, (n, classes).
    """
    classes = pd.Index(class_names(predictions))
    actual, predicted = (classes.get_indexer(pd.Index(predictions[name])) for name in ("label", "predicted"))
    pair = actual * len(classes) + predicted

    def statistic(weights: Floats) -> dict[str, Floats]:
        pairs = np.stack([np.bincount(pair, weight, minlength=len(classes) ** 2) for weight in weights])
        confusion = pairs.reshape(-1, len(classes), len(classes)).astype(np.float64)
        support, taken = confusion.sum(axis=2), confusion.sum(axis=1)
        right = np.diagonal(confusion, axis1=1, axis2=2)
        total = weights.sum(axis=1)
        others = total[:, None] - support
        recall = _ratio(right, support)
        f1 = np.where(support > 0, _ratio(2 * right, support + taken), np.nan)
        return {
            "accuracy": right.sum(axis=1) / total,
            "balanced_accuracy": _mean_of_defined(recall),
            "macro_f1": _mean_of_defined(f1),
            "weighted_f1": np.where(support > 0, support * f1, 0).sum(axis=1) / total,
            "precision": np.where(taken > 0, _ratio(right, taken), 0),
            "recall": recall,
            "specificity": _ratio(others - (taken - right), others),
            "f1": f1,
        }

    return statistic


def losses_of(predictions: pd.DataFrame) -> Floats:
    """Return the log loss, (images,), of each image.

    Probabilities are made to sum to 1, which those of float32 do to seven digits only, and 0 counts as the smallest
    step of float64, as in scikit-learn.
    """
    probabilities = probabilities_of(predictions)
    target = targets_of(predictions)
    of_truth = probabilities[np.arange(len(target)), target] / probabilities.sum(axis=1)
    return -np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1))


def screening_metrics(malignant: NDArray[np.bool_], suspicion: Floats) -> Statistic:
    """Return what computes AUC and points of the ROC curve of malignant against benign, of n weightings, (n, images).

    Args:
        malignant: what each image is.
        suspicion: the probability of the malignant classes together.

    Returns:
        A function that returns the metrics, each (n,).
    """
    auc = area_under_roc(malignant, suspicion)
    sensitivities, specificities = _shares_found(malignant, suspicion), _shares_found(~malignant, -suspicion)

    def statistic(weights: Floats) -> dict[str, Floats]:
        metrics = {"auc": auc(weights)}
        for percent, share in zip(SCREENING_PERCENTS, sensitivities(weights, SCREENING_PERCENTS), strict=True):
            metrics[f"sensitivity_at_{percent}_specificity"] = share
        for percent, share in zip(SCREENING_PERCENTS, specificities(weights, SCREENING_PERCENTS), strict=True):
            metrics[f"specificity_at_{percent}_sensitivity"] = share
        return metrics

    return statistic


def area_under_roc(positive: NDArray[np.bool_], scores: Any) -> Callable[[Floats], Floats]:
    """Return what computes the area under the ROC curve, (n,), of n weightings, (n, images); NaN without one side.

    It is the weight of the pairs of a positive and a negative image in which the positive one has the higher score,
    ties counting half, over that of all pairs (Hanley and McNeil 1982).
    """
    scores = np.asarray(scores)
    positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
    negatives = negatives[np.argsort(scores[negatives], kind="stable")]
    lower = np.searchsorted(scores[negatives], scores[positives], "left")
    not_higher = np.searchsorted(scores[negatives], scores[positives], "right")

    def auc(weights: Floats) -> Floats:
        # np.take is what an index in brackets is, but faster, and other threads go on meanwhile
        below = np.zeros((len(weights), len(negatives) + 1))
        np.cumsum(np.take(weights, negatives, axis=1), axis=1, out=below[:, 1:])
        of_positives = np.take(weights, positives, axis=1)
        won = (of_positives * (np.take(below, lower, axis=1) + np.take(below, not_higher, axis=1))).sum(axis=1) / 2
        return _ratio(won, of_positives.sum(axis=1) * below[:, -1])

    return auc


def _shares_found(positive: NDArray[np.bool_], scores: Floats) -> Callable[[Floats, Sequence[int]], Iterator[Floats]]:
    """Return what yields the largest sensitivity, (n,), over all thresholds, at a specificity of at least each percent.

    The threshold is chosen on the images that are scored, in every draw anew: a point of the ROC curve, not of a
    threshold fixed beforehand.
    """
    order = np.argsort(-scores, kind="stable")
    is_positive = positive[order].astype(np.float64)
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))  # a threshold never parts equal scores

    def shares(weights: Floats, percents: Sequence[int]) -> Iterator[Floats]:
        taken = np.take(weights, order, axis=1)
        found = np.take(np.cumsum(taken * is_positive, axis=1), ends, axis=1)
        alarms = np.take(np.cumsum(taken * (1 - is_positive), axis=1), ends, axis=1)
        for percent in percents:
            # the tolerance is for (1 - 0.9) * 10, which is a little less than 1
            allowed = (alarms <= (1 - percent / 100) * alarms[:, -1:] + 1e-9).sum(axis=1)
            best = np.where(allowed > 0, found[np.arange(len(found)), allowed - 1], 0)
            yield np.where(alarms[:, -1] > 0, _ratio(best, found[:, -1]), np.nan)

    return shares


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return the quotient, NaN where there is none."""
    return np.divide(numerator, denominator, out=np.full_like(denominator, np.nan), where=denominator > 0)


def _mean_of_defined(values: Floats) -> Floats:
    """Return the mean, (n,), of the values of a row, (n, classes), that are not NaN."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
