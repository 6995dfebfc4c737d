"""Score the predictions: metrics/metrics.json, and what the plots are drawn from."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    multilabel_confusion_matrix,
    precision_recall_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
)

from stages.common.errors import run
from stages.common.files import replacing
from stages.common.params import load_params, require_unchanged
from stages.common.tables import PREDICTIONS, PREDICTIONS_TTA, read_table, write_json, write_table

METRICS = Path("metrics/metrics.json")
PLOTS = Path("plots")


def main() -> None:
    evaluate = load_params().evaluate
    predictions = read_table(PREDICTIONS_TTA if evaluate.tta else PREDICTIONS, "part", "label", "predicted")
    parts = [part for part in ("validation", "test") if (predictions["part"] == part).any()]
    metrics = {part: score(predictions[predictions["part"] == part], part) for part in parts}
    shown = predictions[predictions["part"] == parts[-1]]
    write_table(shown[["label", "predicted"]], PLOTS / "confusion_matrix.csv")
    write_table(roc_curves(shown), PLOTS / "roc.csv")
    write_table(precision_recall_curves(shown), PLOTS / "precision_recall.csv")
    write_table(reliability(shown), PLOTS / "reliability.csv")
    draw_confusion_matrix(shown, f"{parts[-1]} images", PLOTS / "confusion_matrix.png")
    write_json(metrics, METRICS)
    require_unchanged(evaluate)
    for part in parts:
        values = metrics[part]
        print(
            f"evaluate: {part}: accuracy {values['accuracy']:.3f}, balanced accuracy {values['balanced_accuracy']:.3f},"
            f" macro F1 {values['macro_f1']:.3f} on {values['support']} images"
        )


def class_names(predictions: pd.DataFrame) -> list[str]:
    """Return the classes of a prediction table, in the order of its probability columns."""
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def score(predictions: pd.DataFrame, part: str) -> dict[str, object]:
    """Return the metrics of one part, all as scikit-learn defines them; what cannot be computed is null.

    Balanced accuracy is the mean recall of the classes that occur. Precision and F1 of a class that is never predicted
    are 0. AUC is one class against the rest, and its macro mean.
    """
    classes = class_names(predictions)
    label, predicted = predictions["label"], predictions["predicted"]
    probabilities = predictions[[f"p_{name}" for name in classes]].to_numpy()
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
    absent = [name for name, values in per_class.items() if values["auc"] is None]
    if absent:
        print(f"warning: no AUC in {part} for {', '.join(absent)}: all images or none are of it", file=sys.stderr)
    return {
        "accuracy": float(accuracy_score(label, predicted)),
        "balanced_accuracy": float(recall[support > 0].mean()),
        "macro_f1": float(f1_score(label, predicted, labels=classes, average="macro", zero_division=0)),
        "weighted_f1": float(f1_score(label, predicted, labels=classes, average="weighted", zero_division=0)),
        "macro_auc": None if absent else float(np.mean([values["auc"] for values in per_class.values()])),
        "log_loss": float(log_loss(label, probabilities, labels=classes)),
        "support": len(predictions),
        "per_class": per_class,
    }


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


def reliability(predictions: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Return `confidence, accuracy`: of the predicted class, the mean in bins of equally many images."""
    confidence = predictions[[f"p_{name}" for name in class_names(predictions)]].max(axis="columns")
    correct = predictions["label"] == predictions["predicted"]
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=bins, strategy="quantile")
    return pd.DataFrame({"confidence": mean_confidence, "accuracy": accuracy})


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
