"""Score the predictions: metrics/metrics.json, metrics/subgroups.csv, and what the plots are drawn from."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, precision_recall_curve, roc_curve

from stages.common.bootstrap import bootstrap, interval
from stages.common.calibration import TEMPERATURES, apply_temperature, fit_temperature, reliability
from stages.common.errors import run
from stages.common.files import replacing
from stages.common.metrics import point_metrics, score, weighted_counts
from stages.common.params import load_params, require_unchanged
from stages.common.tables import (
    MANIFEST,
    PREDICTIONS,
    PREDICTIONS_TTA,
    class_names,
    read_table,
    write_json,
    write_table,
)

METRICS = Path("metrics/metrics.json")
SUBGROUPS = Path("metrics/subgroups.csv")
PLOTS = Path("plots")

VARIABLES = ("sex", "age_band", "localization", "dx_type")
AGE_BANDS = {"0-29": 0, "30-44": 30, "45-59": 45, "60-74": 60, "75+": 75}  # and where each begins, in years
FEW = 20  # cases; fewer say little about a subgroup


def main() -> None:
    evaluate = load_params().evaluate
    scored = PREDICTIONS_TTA if evaluate.tta else PREDICTIONS
    predictions = read_table(scored, "image_id", "part", "label", "predicted")
    known = clinical(read_table(MANIFEST, "image_id", "lesion_id"))
    predictions = predictions.merge(known, on="image_id", how="left", validate="1:1")
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
        again = point_metrics(calibrated)
        metrics["test"] |= {f"{name}_calibrated": again[name] for name in ("log_loss", "ece")}
        metrics["test"]["temperature"] = temperature
        if not 1.01 * TEMPERATURES[0] < temperature < 0.99 * TEMPERATURES[1]:
            metrics["test"]["notes"].append(
                f"the temperature, {temperature:.2f}, is at its limit: validation has too few images, or no mistakes, "
                "to fit it; do not rely on the calibrated numbers"
            )
    write_table(shown[["label", "predicted"]], PLOTS / "confusion_matrix.csv")
    write_table(roc_curves(shown), PLOTS / "roc.csv")
    write_table(precision_recall_curves(shown), PLOTS / "precision_recall.csv")
    write_table(
        pd.concat([curve.assign(probabilities=name) for name, curve in curves.items()]), PLOTS / "reliability.csv"
    )
    draw_confusion_matrix(shown, f"{shown['part'].iloc[0]} images", PLOTS / "confusion_matrix.png")
    write_table(subgroups, SUBGROUPS)
    write_json(metrics, METRICS)
    require_unchanged(evaluate)

    for name, values in metrics.items():
        for note in values["notes"]:
            print(f"warning: {name}: {note}", file=sys.stderr)
    few = subgroups[subgroups["images"] < FEW]
    if len(few):
        names = few["part"] + " " + few["variable"] + " " + few["group"]
        print(f"warning: under {FEW} images are in the subgroups {', '.join(names)}", file=sys.stderr)
    for name, values in metrics.items():
        limits = " to ".join(f"{limit:.3f}" for limit in values["balanced_accuracy_ci"] or [])
        print(
            f"evaluate: {name}: accuracy {values['accuracy']:.3f}, balanced accuracy {values['balanced_accuracy']:.3f}"
            f" ({limits or 'no interval'}), macro F1 {values['macro_f1']:.3f} on {values['support']} images"
        )


def clinical(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return `image_id, lesion_id` and those of VARIABLES that the manifest has, as text; what is empty is unknown."""
    if "age" in manifest:
        bands = pd.cut(manifest["age"], [*AGE_BANDS.values(), np.inf], right=False, labels=list(AGE_BANDS))
        manifest = manifest.assign(age_band=bands.astype(object).fillna(""))
    known = [variable for variable in VARIABLES if variable in manifest]
    return manifest[["image_id", "lesion_id"]].join(manifest[known].replace("", "unknown"))


def score_subgroups(predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return `part, variable, group, images, lesions, balanced_accuracy, low, high, note` of one part's subgroups.

    Balanced accuracy is the mean recall of the classes that occur in the subgroup; `note` names those that do not,
    because the numbers of subgroups with other classes do not compare. The interval, 95 %, resamples the lesions of the
    subgroup and is empty where there is only one.
    """
    rows = []
    for variable in (name for name in VARIABLES if name in predictions):
        for group, images in predictions.groupby(variable, sort=True):
            absent = [name for name in class_names(predictions) if not (images["label"] == name).any()]
            lesions = images["lesion_id"].nunique()
            counts = weighted_counts(images)
            balanced = counts(np.ones((1, len(images))))["balanced_accuracy"]
            draws = bootstrap(counts, images["lesion_id"], seed)["balanced_accuracy"]
            low, high = (interval(draws) if lesions > 1 else None) or (np.nan, np.nan)
            notes = [f"under {FEW} images"] if len(images) < FEW else []
            notes += [f"without {', '.join(absent)}"] if absent else []
            row = [images["part"].iloc[0], variable, group, len(images), lesions, balanced[0], low, high]
            rows.append([*row, "; ".join(notes)])
    columns = ["part", "variable", "group", "images", "lesions", "balanced_accuracy", "low", "high", "note"]
    return pd.DataFrame(rows, columns=columns)


def roc_curves(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `label, false_positive_rate, true_positive_rate`: one curve a class, that class against the rest."""
    curves = []
    for name in class_names(predictions):
        positive = predictions["label"] == name
        if 0 < positive.sum() < len(positive):
            false_rate, true_rate, _ = roc_curve(positive, predictions[f"p_{name}"])
            curves.append(
                pd.DataFrame({"label": name, "false_positive_rate": false_rate, "true_positive_rate": true_rate})
            )
    return pd.concat(curves, ignore_index=True)


def precision_recall_curves(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `label, recall, precision`: one curve a class, that class against the rest."""
    curves = []
    for name in class_names(predictions):
        positive = predictions["label"] == name
        if positive.any():
            precision, recall, _ = precision_recall_curve(positive, predictions[f"p_{name}"], drop_intermediate=True)
            curves.append(pd.DataFrame({"label": name, "recall": recall, "precision": precision}))
    return pd.concat(curves, ignore_index=True)


def draw_confusion_matrix(predictions: pd.DataFrame, title: str, path: Path) -> None:
    """Draw counts and, as colour and in brackets, percentages of each row (actual class)."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    classes = class_names(predictions)
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=classes)
    percentages: NDArray[np.float64] = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.75 * len(classes)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    display = ConfusionMatrixDisplay(percentages, display_labels=classes)
    display.plot(ax=axes, cmap="Blues", im_kw={"vmin": 0, "vmax": 100}, colorbar=False)
    for text, count, percentage in zip(display.text_.flat, counts.flat, percentages.flat, strict=True):
        text.set_text(f"{count}\n{percentage:.0f} %")
    figure.colorbar(display.im_, ax=axes, shrink=0.8, label="% of the actual class")
    axes.set(title=f"Confusion matrix, {len(predictions)} {title}", xlabel="predicted class", ylabel="actual class")
    with replacing(path) as partial:
        # without the software version the same numbers give the same bytes
        figure.savefig(partial, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    run(main)
