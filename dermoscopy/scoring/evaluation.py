"""The evaluation of a run: every part scored, the test part calibrated on validation."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from dermoscopy.data.clinical import clinical_groups
from dermoscopy.runtime.params import Evaluate
from dermoscopy.runtime.paths import SUBGROUPS
from dermoscopy.runtime.progress import progress
from dermoscopy.scoring.bootstrap import DRAWS
from dermoscopy.scoring.calibration import (
    TEMPERATURES,
    Calibration,
    apply_calibration,
    expected_calibration_error,
    fit_calibration,
    reliability,
)
from dermoscopy.scoring.clinical_gain import score_gains
from dermoscopy.scoring.definitions import count_metrics, losses_of
from dermoscopy.scoring.metrics import Metrics, point_metrics, score
from dermoscopy.scoring.predictions import class_names, decide, probabilities_of
from dermoscopy.scoring.subgroups import FEW, score_subgroups

# -1 gives frequent classes their weight back that class weights took from them; without class weights 1 takes it.
EXPONENTS = np.linspace(-1, 1, 17)


class LearntClasses(Protocol):
    """What an evaluation must know of a training: the share and the weight of each class, in the classes' order."""

    @property
    def prior(self) -> list[float]: ...

    @property
    def class_weights(self) -> list[float]: ...


@dataclass(frozen=True)
class Evaluation:
    """The results of a run.

    Attributes:
        metrics: by part, validation first; the last part is the one to judge a model by.
        subgroups: see `score_subgroups`.
        gains: see `score_gains`, of the last part.
        shown: the predictions of the last part.
        reliability: see `reliability`, with a column `probabilities`: as predicted, or calibrated.
        trade_off: see `trade_off`.
    """

    metrics: dict[str, Metrics]
    subgroups: pd.DataFrame
    gains: pd.DataFrame
    shown: pd.DataFrame
    reliability: pd.DataFrame
    trade_off: pd.DataFrame


def evaluate_parts(
    predictions: pd.DataFrame,
    head: LearntClasses,
    manifest: pd.DataFrame,
    evaluate: Evaluate,
    image_only: pd.DataFrame | None = None,
) -> Evaluation:
    """Return the evaluation of a prediction table.

    Args:
        predictions: of validation and, if there is one, test.
        head: what is known of the training.
        manifest: has the lesions and the clinical variables of the images.
        evaluate: the params.
        image_only: the predictions of these images by a head without clinical data; None or empty if it has none.
    """
    predictions = predictions.merge(clinical_groups(manifest), on="image_id", how="left", validate="1:1")
    part = decided_parts(predictions, head.prior, evaluate)
    draws = DRAWS * len(part)
    # in threads: NumPy, which does all of it, lets other threads work
    with progress("bootstrap", draws, "draw", in_logs=False) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        scores = pool.map(lambda images: score(images, evaluate.malignant, evaluate.seed, bar.update), part.values())
        metrics = dict(zip(part, scores, strict=True))
    subgroups = pd.concat([score_subgroups(images) for images in part.values()])

    shown = part[list(part)[-1]]
    alone = predictions[:0] if image_only is None else image_only
    gains = score_gains(shown, decide(alone, head.prior, evaluate.prior_exponent), evaluate.seed)
    curves = {"as predicted": reliability(shown)}
    if calibrated := calibrate(part, head.class_weights, evaluate):
        curves["calibrated"] = reliability(calibrated.predictions)
        metrics["test"] = add_calibrated(metrics["test"], calibrated)
    table = pd.concat([curve.assign(probabilities=name) for name, curve in curves.items()])
    return Evaluation(
        metrics, subgroups, gains, shown, table, trade_off(part["validation"], head.prior, evaluate.prior_exponent)
    )


def evaluate_without_intervals(
    predictions: pd.DataFrame, head: LearntClasses, evaluate: Evaluate
) -> dict[str, Metrics]:
    """Return the metrics of each part without intervals and screening; the arguments are those of `evaluate_parts`."""
    part = decided_parts(predictions, head.prior, evaluate)
    metrics = {name: point_metrics(images) for name, images in part.items()}
    if calibrated := calibrate(part, head.class_weights, evaluate):
        metrics["test"] = add_calibrated(metrics["test"], calibrated)
    return metrics


def decided_parts(predictions: pd.DataFrame, prior: Sequence[float], evaluate: Evaluate) -> dict[str, pd.DataFrame]:
    """Return the predictions of each part that has images, validation first, decided as the params say."""
    decided = decide(predictions, prior, evaluate.prior_exponent)
    part = {name: decided[decided["part"] == name] for name in ("validation", "test")}
    return {name: images for name, images in part.items() if len(images)}


def trade_off(validation: pd.DataFrame, prior: Sequence[float], chosen: float) -> pd.DataFrame:
    """Return `prior_exponent, accuracy, balanced_accuracy` for each of EXPONENTS and the one that is chosen, in order.

    Of the validation images, because whoever reads it chooses by it, and what is chosen on test images flatters.
    """
    alone = np.ones((1, len(validation)))
    exponents = sorted({*EXPONENTS.tolist(), float(chosen)})
    metrics = [count_metrics(decide(validation, prior, exponent))(alone) for exponent in exponents]
    columns = {name: [float(values[name][0]) for values in metrics] for name in ("accuracy", "balanced_accuracy")}
    return pd.DataFrame({"prior_exponent": exponents, **columns})


class Calibrated(NamedTuple):
    """The test predictions, calibrated, and how."""

    predictions: pd.DataFrame
    calibration: Calibration


def calibrate(part: dict[str, pd.DataFrame], class_weights: Sequence[float], evaluate: Evaluate) -> Calibrated | None:
    """Return the calibrated test predictions; None where they are not asked for, or validation would judge itself."""
    if not evaluate.calibrate or "test" not in part:
        return None
    calibration = fit_calibration(part["validation"], class_weights)
    return Calibrated(apply_calibration(part["test"], calibration), calibration)


def add_calibrated(metrics: Metrics, calibrated: Calibrated) -> Metrics:
    """Return the metrics with those of the calibrated predictions, which change no predicted class."""
    predictions, (temperature, biases) = calibrated
    notes = list(metrics.notes)
    if not 1.01 * TEMPERATURES[0] < temperature < 0.99 * TEMPERATURES[1]:
        notes.append(
            f"the temperature, {temperature:.2f}, is at its limit: validation has too few images, or no mistakes, "
            "to fit it; do not rely on the calibrated numbers"
        )
    means = dict(zip(class_names(predictions), probabilities_of(predictions).mean(axis=0), strict=True))
    return metrics.model_copy(
        update={
            "notes": notes,
            "log_loss_calibrated": float(losses_of(predictions).mean()),
            "ece_calibrated": expected_calibration_error(predictions),
            "temperature": temperature,
            "biases": biases,
            "per_class": {
                name: values.model_copy(update={"mean_probability_calibrated": float(means[name])})
                for name, values in metrics.per_class.items()
            },
        }
    )


def warnings_of(evaluation: Evaluation) -> list[str]:
    """Return a line for each reason to be careful with the numbers; one that two parts share is said once."""
    parts: dict[str, list[str]] = {}
    for part, values in evaluation.metrics.items():
        for note in values.notes:
            parts.setdefault(note, []).append(part)
    lines = [f"{' and '.join(of_note)}: {note}" for note, of_note in parts.items()]
    if few := int((evaluation.subgroups["images"] < FEW).sum()):
        lines.append(f"{few} of {len(evaluation.subgroups)} subgroups have under {FEW} images: see {SUBGROUPS}")
    return lines


def summary(metrics: dict[str, Metrics]) -> list[str]:
    """Return a line for each part with its headline metrics."""
    return [
        f"{part}: accuracy {values.accuracy:.3f}, {balanced_accuracy_in_words(values)}, macro F1 {values.macro_f1:.3f} "
        f"on {values.support} images"
        for part, values in metrics.items()
    ]


def balanced_accuracy_in_words(metrics: Metrics) -> str:
    """Return the balanced accuracy with its interval, if it has one."""
    limits = " to ".join(f"{limit:.3f}" for limit in metrics.balanced_accuracy_ci or [])
    return f"balanced accuracy {metrics.balanced_accuracy:.3f} ({limits or 'no interval'})"
