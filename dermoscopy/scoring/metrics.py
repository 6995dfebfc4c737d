"""The metrics of a prediction table, with their intervals, as metrics/metrics.json holds them."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from dermoscopy.data.tables import write_json
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import METRICS
from dermoscopy.scoring.bootstrap import Floats, bootstrap, interval
from dermoscopy.scoring.calibration import expected_calibration_error
from dermoscopy.scoring.definitions import classification_metrics, screening_metrics
from dermoscopy.scoring.predictions import class_names

HEADLINES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
OF_A_CLASS = ("recall", "specificity", "f1", "auc")

Interval = tuple[float, float] | None  # 95 %, low and high


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassMetrics(_Result):
    """Of one class against the rest; what cannot be computed is None. `support` is its number of images."""

    precision: float
    recall: float | None
    specificity: float | None
    f1: float | None
    auc: float | None
    support: int
    recall_ci: Interval = None
    specificity_ci: Interval = None
    f1_ci: Interval = None
    auc_ci: Interval = None


class Screening(_Result):
    """Of malignant against benign: numbers of images, AUC, and points of the ROC curve, of the scored images."""

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

    `ece` is the expected calibration error of the predicted class. `..._calibrated` is after temperature scaling.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    weighted_f1: float
    macro_auc: float | None
    log_loss: float
    ece: float
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


def score(predictions: pd.DataFrame, malignant: list[str], seed: int) -> Metrics:
    """Return all metrics of a prediction table that has `lesion_id` too, with their intervals.

    Args:
        predictions: the table.
        malignant: the classes that screening must find.
        seed: of the bootstrap.
    """
    screened = [name for name in class_names(predictions) if name in malignant]
    suspicion = predictions[[f"p_{name}" for name in screened]].to_numpy(np.float64).sum(axis=1)
    is_malignant = predictions["label"].isin(screened).to_numpy()
    classification, screening = classification_metrics(predictions), screening_metrics(is_malignant, suspicion)
    both = is_malignant.any() and not is_malignant.all()

    def statistic(weights: Floats) -> dict[str, Floats]:
        of_screening = screening(weights) if both else {}
        return classification(weights) | {f"screening {name}": values for name, values in of_screening.items()}

    observed = statistic(np.ones((1, len(predictions))))
    draws = bootstrap(statistic, predictions["lesion_id"], seed)
    points = _points(predictions, observed)
    enough = enough_lesions(predictions)
    for name in HEADLINES:
        points[f"{name}_ci"] = interval(draws[name]) if enough[name] and points[name] is not None else None
    metrics = Metrics(
        **points,
        per_class=_per_class(predictions, observed, draws),
        screening=_screening(predictions, is_malignant, observed, draws) if both else None,
        notes=[],
    )
    return metrics.model_copy(update={"notes": caveats(metrics, predictions, screened, malignant)})


def enough_lesions(predictions: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Return whether each metric has an interval: () for a metric of all images, (classes,) for one of a class.

    Resampling a single lesion shows no spread, so a metric needs two lesions of each kind that it is about: recall and
    F1 two of the class, specificity two of other classes, AUC both, the metrics of all images two.
    """
    lesion, label, classes = predictions["lesion_id"], predictions["label"], class_names(predictions)
    of_class = np.array([len(set(lesion[label == name])) > 1 for name in classes])
    of_others = np.array([len(set(lesion[label != name])) > 1 for name in classes])
    of_all = np.asarray(len(set(lesion)) > 1)
    return {
        **dict.fromkeys(HEADLINES, of_all),
        "recall": of_class,
        "f1": of_class,
        "specificity": of_others,
        "auc": of_class & of_others,
    }


def caveats(metrics: Metrics, predictions: pd.DataFrame, screened: list[str], malignant: list[str]) -> list[str]:
    """Return a sentence for each reason why values are None or weaker than they look."""
    lesions = {
        name: predictions["lesion_id"][predictions["label"] == name].nunique() for name in class_names(predictions)
    }
    per_class = metrics.per_class
    notes = []
    if absent := [name for name, count in lesions.items() if not count]:
        notes.append(
            f"no recall, F1, AUC or macro AUC for {', '.join(absent)}: no image is of it; balanced accuracy and macro "
            "F1 are means over the other classes"
        )
    if single := [name for name, count in lesions.items() if count == 1]:
        notes.append(f"no interval for {', '.join(single)}: one lesion only; intervals of the means lack its spread")
    if whole := [name for name, values in per_class.items() if values.specificity is None]:
        notes.append(f"no specificity or AUC for {', '.join(whole)}: all images are of it")
    if alone := [
        name for name, values in per_class.items() if values.specificity is not None and values.specificity_ci is None
    ]:
        notes.append(f"no interval for specificity and AUC of {', '.join(alone)}: one lesion of other classes only")
    if perfect := [
        name for name, values in per_class.items() if values.recall in (0, 1) and values.recall_ci is not None
    ]:
        notes.append(f"recall of {', '.join(perfect)} is 0 or 1, where a bootstrap interval has no width: rely on n")
    if unknown := [name for name in malignant if name not in per_class]:
        notes.append(f"evaluate.malignant names {', '.join(unknown)}, which the model does not know")
    if metrics.screening is None:
        missing = "no class is named malignant" if not screened else "all images or none are malignant"
        notes.append(f"no screening metrics: {missing}")
    elif metrics.screening.auc_ci is None:
        notes.append("no interval for the screening metrics: one malignant or one benign lesion only")
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


def _per_class(
    predictions: pd.DataFrame, observed: dict[str, Floats], draws: dict[str, Floats] | None = None
) -> dict[str, ClassMetrics]:
    enough = enough_lesions(predictions) if draws else {}
    per_class = {}
    for i, label in enumerate(class_names(predictions)):
        values: dict[str, Any] = {name: _or_none(observed[name][0, i]) for name in ("precision", *OF_A_CLASS)}
        values["support"] = int((predictions["label"] == label).sum())
        if draws:
            values |= {f"{name}_ci": interval(draws[name][:, i]) if enough[name][i] else None for name in OF_A_CLASS}
        per_class[label] = ClassMetrics(**values)
    return per_class


def _screening(
    predictions: pd.DataFrame, is_malignant: NDArray[np.bool_], observed: dict[str, Floats], draws: dict[str, Floats]
) -> Screening:
    two_of_both = predictions["lesion_id"].groupby(is_malignant).nunique().min() > 1
    values: dict[str, Any] = {}
    for key in (key for key in observed if key.startswith("screening ")):
        name = key.removeprefix("screening ")
        values |= {name: float(observed[key][0]), f"{name}_ci": interval(draws[key]) if two_of_both else None}
    return Screening(malignant=int(is_malignant.sum()), benign=int((~is_malignant).sum()), **values)


def _or_none(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
