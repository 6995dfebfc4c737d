"""Metrics of prediction tables: as scikit-learn defines them, and, for the bootstrap, of many weightings at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    log_loss,
    multilabel_confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from stages.common.bootstrap import Floats, Statistic, bootstrap, interval
from stages.common.calibration import expected_calibration_error
from stages.common.tables import class_names, probabilities_of

HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
OF_A_CLASS = ("recall", "specificity", "f1", "auc")


def score(predictions: pd.DataFrame, malignant: list[str], seed: int) -> dict[str, Any]:
    """Return all metrics of a prediction table that has `lesion_id` too, with 95 % intervals as `<name>_ci`.

    What cannot be computed is null; `notes` says why, and what else limits a number. An interval needs two lesions of
    the class (for the specificity, of other classes): resampling one lesion shows no spread.
    """
    classes = class_names(predictions)
    metrics = point_metrics(predictions)
    screened = [name for name in classes if name in malignant]
    suspicion = predictions[[f"p_{name}" for name in screened]].to_numpy(np.float64).sum(axis=1)
    is_malignant = predictions["label"].isin(screened).to_numpy()
    both = is_malignant.any() and not is_malignant.all()

    weighted, screening = weighted_metrics(predictions), screening_metrics(is_malignant, suspicion)

    def statistic(weights: Floats) -> dict[str, Floats]:
        of_screening = screening(weights) if both else {}
        return weighted(weights) | {f"screening {name}": values for name, values in of_screening.items()}

    draws = bootstrap(statistic, predictions["lesion_id"], seed)
    lesions = {name: predictions["lesion_id"][predictions["label"] == name].nunique() for name in classes}
    others = {name: predictions["lesion_id"][predictions["label"] != name].nunique() for name in classes}
    several = len(predictions["lesion_id"].unique()) > 1
    for name in HEADLINES:
        metrics[f"{name}_ci"] = interval(draws[name]) if several and metrics[name] is not None else None
    for i, label in enumerate(classes):
        enough = {"recall": lesions[label] > 1, "f1": lesions[label] > 1, "specificity": others[label] > 1}
        enough["auc"] = enough["recall"] and enough["specificity"]
        for name in OF_A_CLASS:
            metrics["per_class"][label][f"{name}_ci"] = interval(draws[name][:, i]) if enough[name] else None
    metrics["screening"] = None
    if both:
        observed = screening(np.ones((1, len(predictions))))
        metrics["screening"] = {"malignant": int(is_malignant.sum()), "benign": int((~is_malignant).sum())}
        enough_of_both = predictions["lesion_id"].groupby(is_malignant).nunique().min() > 1
        for name, value in observed.items():
            limits = interval(draws[f"screening {name}"]) if enough_of_both else None
            metrics["screening"] |= {name: float(value[0]), f"{name}_ci": limits}
    metrics["notes"] = limits_of(metrics, lesions, screened, malignant)
    return metrics


def limits_of(metrics: dict[str, Any], lesions: dict[str, int], screened: list[str], malignant: list[str]) -> list[str]:
    """Return a sentence for each reason why values are null or weaker than they look."""
    notes = []
    if absent := [name for name, count in lesions.items() if not count]:
        notes.append(
            f"no recall, AUC or macro AUC for {', '.join(absent)}: no image is of it; balanced accuracy and macro F1 "
            "are means over the other classes"
        )
    if single := [name for name, count in lesions.items() if count == 1]:
        notes.append(f"no interval for {', '.join(single)}: one lesion only; intervals of the means lack its spread")
    if whole := [name for name, values in metrics["per_class"].items() if values["specificity"] is None]:
        notes.append(f"no specificity or AUC for {', '.join(whole)}: all images are of it")
    if alone := [
        name
        for name, values in metrics["per_class"].items()
        if values["specificity"] is not None and values["specificity_ci"] is None
    ]:
        notes.append(f"no interval for specificity and AUC of {', '.join(alone)}: one lesion of other classes only")
    if perfect := [
        name
        for name, values in metrics["per_class"].items()
        if values["recall"] in (0, 1) and values["recall_ci"] is not None
    ]:
        notes.append(f"recall of {', '.join(perfect)} is 0 or 1, where a bootstrap interval has no width: rely on n")
    if unknown := [name for name in malignant if name not in metrics["per_class"]]:
        notes.append(f"evaluate.malignant names {', '.join(unknown)}, and the model knows no such class")
    if metrics["screening"] is None:
        missing = "no class is named malignant" if not screened else "all images or none are malignant"
        notes.append(f"no screening metrics: {missing}")
    elif metrics["screening"]["auc_ci"] is None:
        notes.append("no interval for the screening metrics: one malignant or one benign lesion only")
    return notes


def point_metrics(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of a prediction table, all as scikit-learn defines them; what cannot be computed is None.

    Balanced accuracy is the mean recall of the classes that occur, the metric of the ISIC 2018 challenge's Task 3
    (Codella et al. 2019, arXiv:1902.03368); macro F1 is the mean over the same classes. Precision and F1 of a class
    that is never predicted are 0. AUC is one class against the rest, and its macro mean. `ece` is the expected
    calibration error of the predicted class.
    """
    classes = class_names(predictions)
    label, predicted = predictions["label"], predictions["predicted"]
    probabilities = probabilities_of(predictions)
    precision, recall, f1, support = precision_recall_fscore_support(label, predicted, labels=classes, zero_division=0)
    negatives = multilabel_confusion_matrix(label, predicted, labels=classes)[:, 0]  # (true negative, false positive)
    per_class: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(classes):
        both = 0 < support[i] < len(label)
        per_class[name] = {
            "precision": float(precision[i]),
            "recall": float(recall[i]) if support[i] else None,
            "specificity": float(negatives[i, 0] / negatives[i].sum()) if negatives[i].sum() else None,
            "f1": float(f1[i]),
            "auc": float(roc_auc_score(label == name, probabilities[:, i])) if both else None,
            "support": int(support[i]),
        }
    aucs = [values["auc"] for values in per_class.values()]
    return {
        "accuracy": float(accuracy_score(label, predicted)),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1[support > 0].mean()),
        "weighted_f1": float(f1_score(label, predicted, labels=classes, average="weighted", zero_division=0)),
        "macro_auc": None if None in aucs else float(np.mean(aucs)),
        # the sums of float32 are 1 to seven digits only
        "log_loss": float(log_loss(label, probabilities / probabilities.sum(axis=1, keepdims=True), labels=classes)),
        "ece": expected_calibration_error(predictions),
        "support": len(predictions),
        "per_class": per_class,
    }


def weighted_metrics(predictions: pd.DataFrame) -> Statistic:
    """Return what computes the metrics that have intervals, of n weightings, (n, images), of the images.

    Each equals that of `point_metrics` where an image of weight w stands for w images. A class that a weighting leaves
    out has NaN, and the means are over the others, as in `point_metrics` but for `macro_auc`, which is None there.

    Returns:
        A function that returns `accuracy`, `balanced_accuracy`, `macro_f1`, `macro_auc`, (n,), and `recall`,
        `specificity`, `f1`, `auc`, (n, classes). What does not depend on the weights is computed here, once.
    """
    counts = weighted_counts(predictions)
    aucs = [
        weighted_auc((predictions["label"] == name).to_numpy(), predictions[f"p_{name}"])
        for name in class_names(predictions)
    ]

    def statistic(weights: Floats) -> dict[str, Floats]:
        auc = np.stack([auc(weights) for auc in aucs], axis=1)
        return counts(weights) | {"auc": auc, "macro_auc": _mean_of_defined(auc)}

    return statistic


def weighted_counts(predictions: pd.DataFrame) -> Statistic:
    """Return what computes those of `weighted_metrics` that count images, and need no probabilities."""
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
            "recall": recall,
            "specificity": _ratio(others - (taken - right), others),
            "f1": f1,
        }

    return statistic


def weighted_auc(positive: NDArray[np.bool_], scores: Any) -> Callable[[Floats], Floats]:
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


def screening_metrics(malignant: NDArray[np.bool_], suspicion: Floats) -> Statistic:
    """Return what computes AUC and points of the ROC curve of malignant against benign, of n weightings, (n, images).

    Args:
        malignant: what each image is.
        suspicion: the probability of the malignant classes together.

    Returns:
        A function that returns the metrics, each (n,).
    """
    percents = (90, 95)
    auc = weighted_auc(malignant, suspicion)
    sensitivities, specificities = _shares_found(malignant, suspicion), _shares_found(~malignant, -suspicion)

    def statistic(weights: Floats) -> dict[str, Floats]:
        metrics = {"auc": auc(weights)}
        for percent, share in zip(percents, sensitivities(weights, percents), strict=True):
            metrics[f"sensitivity_at_{percent}_specificity"] = share
        for percent, share in zip(percents, specificities(weights, percents), strict=True):
            metrics[f"specificity_at_{percent}_sensitivity"] = share
        return metrics

    return statistic


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
    """Return the mean, (n,), of the values of a row, (n, classes), that are no NaN."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=1), defined.sum(axis=1).astype(np.float64))
