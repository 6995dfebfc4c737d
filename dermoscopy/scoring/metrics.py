"""The metrics of a prediction table, with their intervals, as metrics/metrics.json holds them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dermoscopy.data.diagnoses import malignant_classes
from dermoscopy.data.tables import write_json
from dermoscopy.runtime.errors import DataError, first_few
from dermoscopy.runtime.paths import METRICS
from dermoscopy.scoring.bootstrap import Advance, Floats, bootstrap, interval
from dermoscopy.scoring.calibration import ece_floor, expected_calibration_error
from dermoscopy.scoring.definitions import classification_metrics, screening_metrics
from dermoscopy.scoring.intervals import lesions_of_classes, mean_interval, share_interval
from dermoscopy.scoring.predictions import class_names, probabilities_of

HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
OF_A_CLASS = ("recall", "specificity", "f1", "auc")
# Those with an interval by the bootstrap, not by formula, and their names in notes.
RESAMPLED = {"accuracy": "accuracy", "macro_f1": "macro F1", "macro_auc": "macro AUC"}
RESAMPLED_OF_A_CLASS = {"f1": "F1", "auc": "AUC"}

Interval = tuple[float, float] | None  # 95 %, low and high


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassMetrics(_Result):
    """Of one class against the rest; what cannot be computed is None.

    `support` is its number of images, `mean_probability` what it gets on average: its predicted share of the images.
    """

    precision: float
    recall: float | None
    specificity: float | None
    f1: float | None
    auc: float | None
    support: int
    mean_probability: float | None = None
    mean_probability_calibrated: float | None = None
    recall_ci: Interval = None
    specificity_ci: Interval = None
    f1_ci: Interval = None
    auc_ci: Interval = None


class Screening(_Result):
    """Of malignant against benign: numbers of images, AUC, and points of the ROC curve, of the scored images.

    `classes` are those that count as malignant.
    """

    classes: list[str]
    malignant: int
    benign: int
    auc: float
    auc_ci: Interval
    sensitivity_at_90_specificity: float
    sensitivity_at_90_specificity_ci: Interval
    sensitivity_at_95_specificity: float
    sensitivity_at_95_specificity_ci: Interval
    specificity_at_90_sensitivity: float
    specificity_at_90_sensitivity_ci: Interval
    specificity_at_95_sensitivity: float
    specificity_at_95_sensitivity_ci: Interval


class Metrics(_Result):
    """Of one part. What cannot be computed is None; `notes` says why, and what else limits a number.

    `ece` is the expected calibration error of the likeliest class, `ece_floor` what it is on average of so many
    images where calibration is perfect. `..._calibrated` is with the `temperature` and the `biases` that were fitted
    on validation.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
    macro_auc: float | None
    log_loss: float
    ece: float
    ece_floor: float | None = None
    support: int
    per_class: dict[str, ClassMetrics]
    accuracy_ci: Interval = None
    balanced_accuracy_ci: Interval = None
    macro_f1_ci: Interval = None
    macro_auc_ci: Interval = None
    screening: Screening | None = None
    notes: list[str] = []
    log_loss_calibrated: float | None = None
    ece_calibrated: float | None = None
    temperature: float | None = None
    biases: dict[str, float] | None = None


def write_metrics(metrics: dict[str, Metrics], path: Path = METRICS) -> None:
    """Write the metrics of each part as JSON; values that were never asked for are left out."""
    write_json({part: values.model_dump(mode="json", exclude_unset=True) for part, values in metrics.items()}, path)


def read_metrics(path: Path = METRICS) -> dict[str, Metrics]:
    """Return the metrics of each part; a DataError if the file is missing or is not such a file."""
    try:
        metrics = TypeAdapter(dict[str, Metrics]).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run dvc repro, which makes it") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
        raise DataError(f"{path} cannot be read ({reason}): delete it and run dvc repro") from None
    if not metrics:
        raise DataError(f"{path} has no part: delete it and run dvc repro")
    return metrics


def point_metrics(predictions: pd.DataFrame) -> Metrics:
    """Return the metrics of a prediction table without intervals and without screening."""
    observed = classification_metrics(predictions)(np.ones((1, len(predictions))))
    return Metrics(**_points(predictions, observed), per_class=_per_class(predictions, observed))


def score(
    predictions: pd.DataFrame, malignant: Sequence[str] | None, seed: int, advance: Advance | None = None
) -> Metrics:
    """Return all metrics of a prediction table that has `group_id` too, with their intervals.

    Args:
        predictions: the table.
        malignant: the classes that screening must find; None for those that `dermoscopy.data.diagnoses` knows.
        seed: of the bootstrap and of `ece_floor`.
        advance: is told of each block of the bootstrap's samples how many they were, DRAWS in all.
    """
    screened, unknown = malignant_classes(class_names(predictions), malignant)
    suspicion = predictions[[f"p_{name}" for name in screened]].to_numpy(np.float64).sum(axis=1)
    is_malignant = predictions["label"].isin(screened).to_numpy()
    classification, screening = classification_metrics(predictions), screening_metrics(is_malignant, suspicion)
    both = not unknown and is_malignant.any() and not is_malignant.all()

    def statistic(weights: Floats) -> dict[str, Floats]:
        of_screening = screening(weights) if both else {}
        return classification(weights) | {f"screening {name}": values for name, values in of_screening.items()}

    observed = statistic(np.ones((1, len(predictions))))
    draws = bootstrap(statistic, predictions["group_id"], seed, advance=advance)
    points = _points(predictions, observed)
    enough = enough_lesions(predictions)
    for name in RESAMPLED:
        points[f"{name}_ci"] = interval(draws[name]) if enough[name] and points[name] is not None else None
    points["balanced_accuracy_ci"] = mean_interval(observed["recall"][0], lesions_of_classes(predictions)[0])
    points["ece_floor"] = ece_floor(predictions, seed)
    metrics = Metrics(
        **points,
        per_class=_with_intervals(_per_class(predictions, observed), predictions, draws),
        screening=_screening(predictions, screened, observed, draws) if both else None,
        notes=[],
    )
    return metrics.model_copy(update={"notes": caveats(metrics, predictions, malignant)})


def enough_lesions(predictions: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return whether each metric can be resampled: () for a metric of all images, (classes,) for one of a class.

    Resampling a single lesion shows no spread, so a metric needs two lesions of each kind that it is about: recall and
    F1 two of the class, specificity two of other classes, AUC both, the metrics of all images two.
    """
    of_class, of_others = (lesions > 1 for lesions in lesions_of_classes(predictions))
    of_all = np.asarray(len(predictions["group_id"].unique()) > 1)
    return {
        **dict.fromkeys(HEADLINES, of_all),
        "recall": of_class,
        "f1": of_class,
        "specificity": of_others,
        "auc": of_class & of_others,
    }


def caveats(metrics: Metrics, predictions: pd.DataFrame, malignant: Sequence[str] | None) -> list[str]:
    """Return a sentence for each reason why values are None or weaker than they look."""
    per_class = metrics.per_class
    screened, unknown = malignant_classes(list(per_class), malignant)
    lesions, of_others = (dict(zip(per_class, count, strict=True)) for count in lesions_of_classes(predictions))
    notes = []
    if absent := [name for name, count in lesions.items() if not count]:
        notes.append(
            f"no recall, F1, AUC or macro AUC for {first_few(absent)}: no image is of it; balanced accuracy and macro "
            "F1 are means over the other classes"
        )
    if single := [name for name, count in lesions.items() if count == 1]:
        notes.append(
            f"no interval for F1 and AUC of {first_few(single)}: one lesion or patient only; intervals of macro F1 and "
            "macro AUC lack its spread"
        )
    if whole := [name for name, values in per_class.items() if values.specificity is None]:
        notes.append(f"no specificity or AUC for {first_few(whole)}: all images are of it")
    if alone := [name for name, count in lesions.items() if count and of_others[name] == 1]:
        notes.append(f"no interval for AUC of {first_few(alone)}: one lesion or patient of other classes only")
    if constant := _without_width(metrics, predictions, screened):
        notes.append(
            f"no interval for {first_few(constant)}: the same in all bootstrap samples of these images, which does "
            "not show how it varies"
        )
    if strange := [name for name in malignant or () if name not in per_class]:
        notes.append(f"evaluate.malignant names {first_few(strange)}, which the model does not know")
    if unknown:
        notes.append(
            f"no screening metrics: nobody says whether {first_few(unknown)} {'is' if len(unknown) == 1 else 'are'} "
            "malignant: set evaluate.malignant to the list of all classes that are"
        )
    elif metrics.screening is None:
        missing = "no class is malignant" if not screened else "all images or none are malignant"
        notes.append(f"no screening metrics: {missing}")
    elif not _two_lesions_of_both(predictions, predictions["label"].isin(screened).to_numpy()):
        notes.append("no interval for the screening metrics: one malignant or one benign lesion or patient only")
    return notes


def _points(predictions: pd.DataFrame, observed: dict[str, Floats]) -> dict[str, Any]:
    """Return the metrics of all images; macro AUC is None where a class has no AUC."""
    points: dict[str, Any] = {
        name: float(observed[name][0])
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "macro_auc", "log_loss")
    }
    if np.isnan(observed["auc"]).any():
        points["macro_auc"] = None
    return points | {"ece": expected_calibration_error(predictions), "support": len(predictions)}


def _per_class(predictions: pd.DataFrame, observed: dict[str, Floats]) -> dict[str, ClassMetrics]:
    per_class = {}
    for i, label in enumerate(class_names(predictions)):
        values: dict[str, Any] = {name: _or_none(observed[name][0, i]) for name in ("precision", *OF_A_CLASS)}
        values["support"] = int((predictions["label"] == label).sum())
        values["mean_probability"] = float(probabilities_of(predictions)[:, i].mean())
        per_class[label] = ClassMetrics(**values)
    return per_class


def _with_intervals(
    per_class: dict[str, ClassMetrics], predictions: pd.DataFrame, draws: dict[str, Floats]
) -> dict[str, ClassMetrics]:
    enough, (of_class, of_others) = enough_lesions(predictions), lesions_of_classes(predictions)
    found = {}
    for i, (label, values) in enumerate(per_class.items()):
        limits: dict[str, Interval] = {
            f"{name}_ci": interval(draws[name][:, i]) if enough[name][i] else None for name in RESAMPLED_OF_A_CLASS
        }
        recall, specificity = values.recall, values.specificity
        limits["recall_ci"] = None if recall is None else share_interval(recall, of_class[i])
        limits["specificity_ci"] = None if specificity is None else share_interval(specificity, of_others[i])
        found[label] = values.model_copy(update=limits)
    return found


def _without_width(metrics: Metrics, predictions: pd.DataFrame, screened: list[str]) -> list[str]:
    """Return in words what has enough lesions for an interval but none, because all bootstrap samples agree."""

    def missing(values: _Result, name: str) -> bool:
        return getattr(values, name) is not None and getattr(values, f"{name}_ci") is None

    enough = enough_lesions(predictions)
    found = [words for name, words in RESAMPLED.items() if enough[name] and missing(metrics, name)]
    for i, (label, values) in enumerate(metrics.per_class.items()):
        names = [name for name in RESAMPLED_OF_A_CLASS if enough[name][i] and missing(values, name)]
        found += [f"{RESAMPLED_OF_A_CLASS[name]} of {label}" for name in names]
    if metrics.screening and _two_lesions_of_both(predictions, predictions["label"].isin(screened).to_numpy()):
        names = [name.removesuffix("_ci") for name in Screening.model_fields if name.endswith("_ci")]
        of_screening = [name for name in names if missing(metrics.screening, name)]
        found += [f"{name.replace('_', ' ').replace('auc', 'AUC')} of screening" for name in of_screening]
    return found


def _screening(
    predictions: pd.DataFrame, screened: list[str], observed: dict[str, Floats], draws: dict[str, Floats]
) -> Screening:
    is_malignant = predictions["label"].isin(screened).to_numpy()
    two_of_both = _two_lesions_of_both(predictions, is_malignant)
    values: dict[str, Any] = {}
    for key in (key for key in observed if key.startswith("screening ")):
        name = key.removeprefix("screening ")
        values |= {name: float(observed[key][0]), f"{name}_ci": interval(draws[key]) if two_of_both else None}
    count = int(is_malignant.sum())
    return Screening(classes=screened, malignant=count, benign=len(predictions) - count, **values)


def _two_lesions_of_both(predictions: pd.DataFrame, is_malignant: NDArray[np.bool_]) -> bool:
    return bool(predictions["group_id"].groupby(is_malignant).nunique().min() > 1)


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
