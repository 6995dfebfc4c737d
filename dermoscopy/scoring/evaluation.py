"""The evaluation of a run: every part scored, the test part calibrated on validation."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd

from dermoscopy.data.clinical import clinical_groups
from dermoscopy.runtime.params import Evaluate
from dermoscopy.scoring.calibration import (
    TEMPERATURES,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from dermoscopy.scoring.definitions import losses_of
from dermoscopy.scoring.metrics import Metrics, score
from dermoscopy.scoring.subgroups import FEW, score_subgroups


@dataclass(frozen=True)
class Evaluation:
    """The results of a run.

    Attributes:
        metrics: by part, validation first; the last part is the one to judge a model by.
        subgroups: see `score_subgroups`.
        shown: the predictions of the last part.
        reliability: see `reliability`, with a column `probabilities`: as predicted, or calibrated.
    """

    metrics: dict[str, Metrics]
    subgroups: pd.DataFrame
    shown: pd.DataFrame
    reliability: pd.DataFrame


def evaluate_parts(predictions: pd.DataFrame, manifest: pd.DataFrame, evaluate: Evaluate) -> Evaluation:
    """Return the evaluation of a prediction table, with the lesions and the clinical variables of the manifest."""
    predictions = predictions.merge(clinical_groups(manifest), on="image_id", how="left", validate="1:1")
    part = {name: predictions[predictions["part"] == name] for name in ("validation", "test")}
    part = {name: images for name, images in part.items() if len(images)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # NumPy, which does all of it, lets other threads work
        scores = pool.map(lambda images: score(images, evaluate.malignant, evaluate.seed), part.values())
        tables = pool.map(lambda images: score_subgroups(images, evaluate.seed), part.values())
        metrics, subgroups = dict(zip(part, scores, strict=True)), pd.concat(tables)

    shown = part[list(part)[-1]]
    curves = {"as predicted": reliability(shown)}
    if evaluate.calibrate and "test" in part:  # on the validation part the temperature would judge itself
        temperature = fit_temperature(part["validation"])
        calibrated = apply_temperature(part["test"], temperature)
        curves["calibrated"] = reliability(calibrated)
        metrics["test"] = add_calibrated(metrics["test"], calibrated, temperature)
    table = pd.concat([curve.assign(probabilities=name) for name, curve in curves.items()])
    return Evaluation(metrics, subgroups, shown, table)


def add_calibrated(metrics: Metrics, calibrated: pd.DataFrame, temperature: float) -> Metrics:
    """Return the metrics with those of the calibrated predictions, which change no predicted class."""
    notes = list(metrics.notes)
    if not 1.01 * TEMPERATURES[0] < temperature < 0.99 * TEMPERATURES[1]:
        notes.append(
            f"the temperature, {temperature:.2f}, is at its limit: validation has too few images, or no mistakes, "
            "to fit it; do not rely on the calibrated numbers"
        )
    return metrics.model_copy(
        update={
            "notes": notes,
            "log_loss_calibrated": float(losses_of(calibrated).mean()),
            "ece_calibrated": expected_calibration_error(calibrated),
            "temperature": temperature,
        }
    )


def warnings_of(evaluation: Evaluation) -> list[str]:
    """Return a line for each reason to be careful with the numbers."""
    lines = [f"{part}: {note}" for part, values in evaluation.metrics.items() for note in values.notes]
    few = evaluation.subgroups[evaluation.subgroups["images"] < FEW]
    if len(few):
        names = few["part"] + " " + few["variable"] + " " + few["group"]
        lines.append(f"under {FEW} images are in the subgroups {', '.join(names)}")
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
