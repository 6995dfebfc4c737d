"""The figures of the page for a paper or a thesis: vectors, in one style, without titles, which captions are for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dermoscopy.data.tables import read_table
from dermoscopy.features.finetuned import read_finetuning
from dermoscopy.page.charts import COLOURS
from dermoscopy.page.contents import curves_by_class, read_log, read_reliability, read_subgroups, read_trade_off
from dermoscopy.page.facts import Estimate
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.paths import (
    CLASS_DISTRIBUTION,
    CONFUSION_MATRIX,
    FINETUNED,
    PRECISION_RECALL,
    ROC,
    TRAINING_CURVES,
)
from dermoscopy.scoring.confusion_matrix import confusion_figure, drawable
from dermoscopy.scoring.metrics import Metrics, read_metrics
from dermoscopy.scoring.subgroups import FEW

COLUMN, TWO_COLUMNS = 3.35, 7.0  # inches, as journals have them
DASHES: list[Any] = ["-", (0, (4, 1.2)), (0, (1, 1)), (0, (5, 1.2, 1, 1.2))]
GREY = "#767676"
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "text.parse_math": False,  # names are no formulas
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "svg.hashsalt": "dermoscopy",  # the same ids, and so the same bytes
}
# without dates and versions the same numbers give the same bytes
FORMATS: dict[str, dict[str, None]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}

Log = dict[tuple[str, str], pd.DataFrame]


@dataclass(frozen=True)
class Results:
    """What the figures show, of the part to judge by.

    Attributes:
        part: its name.
        shown: its metrics.
        labels: `label` and `predicted` of each image.
        roc, precision_recall: see `dermoscopy.scoring.curves`, by class.
        reliability: see `read_reliability`.
        trade_off: see `dermoscopy.scoring.evaluation`.
        exponent: that of `trade_off` which was chosen.
        subgroups: see `read_subgroups`.
        distribution: `label, images, lesions` of all images.
        training: see `read_log`; of the head.
        tuning: the same of the backbone; None where it stayed frozen.
    """

    part: str
    shown: Metrics
    labels: pd.DataFrame
    roc: dict[str, pd.DataFrame]
    precision_recall: dict[str, pd.DataFrame]
    reliability: pd.DataFrame
    trade_off: pd.DataFrame
    exponent: float
    subgroups: list[dict[str, Any]]
    distribution: pd.DataFrame
    training: Log
    tuning: Log | None


def read_results(exponent: float) -> Results:
    """Return what earlier stages wrote; `exponent` is that of the params.

    Raises:
        DataError: a file is missing or damaged, or of another exponent.
    """
    metrics = read_metrics()
    part = list(metrics)[-1]
    tuned = read_finetuning().epochs > 0
    return Results(
        part,
        metrics[part],
        read_table(CONFUSION_MATRIX, "label", "predicted"),
        curves_by_class(ROC),
        curves_by_class(PRECISION_RECALL),
        read_reliability(),
        read_trade_off(exponent),
        exponent,
        read_subgroups(part),
        read_table(CLASS_DISTRIBUTION, "label", "images", "lesions"),
        read_log(TRAINING_CURVES, 1, "run dvc repro train"),
        read_log(FINETUNED / "log/plots/metrics", 0, "run dvc repro finetune") if tuned else None,
    )


def write_figures(results: Results, folder: Path) -> list[str]:
    """Write every figure that the results have into a folder, as PDF and SVG, and return their names.

    Those of an earlier run that these results do not have are removed. The same results give the same bytes.
    """
    draw: dict[str, Callable[[], Figure] | None] = {
        "confusion_matrix": partial(confusion_figure, results.labels, list(results.shown.per_class)),
        "roc": partial(draw_roc, results),
        "precision_recall": partial(draw_precision_recall, results),
        "reliability": partial(draw_reliability, results.reliability),
        "trade_off": partial(draw_trade_off, results.trade_off, results.exponent),
        "training": partial(draw_training, results.training),
        "finetuning": partial(draw_training, results.tuning) if results.tuning else None,
        "subgroups": partial(draw_subgroups, results.subgroups, results.shown) if results.subgroups else None,
        "class_distribution": partial(draw_distribution, results.distribution),
    }
    names = [*results.shown.per_class, *results.distribution["label"], *(row["group"] for row in results.subgroups)]
    with rc_context({**STYLE, "font.family": drawable(names)[1]}):
        for name, function in draw.items():
            figure = function() if function else None
            for kind, metadata in FORMATS.items():
                path = folder / f"{name}.{kind}"
                if figure is None:
                    path.unlink(missing_ok=True)
                    continue
                with replacing(path) as file:
                    figure.savefig(file, metadata=metadata)
    return [name for name, function in draw.items() if function]


def draw_roc(results: Results) -> Figure:
    """Return the ROC curves of all classes, each against the rest, with the AUC of each."""
    classes = results.shown.per_class
    auc = {name: classes[name].auc for name in results.roc}
    axis = "false_positive_rate", "true_positive_rate"
    figure, axes = _curves(results.roc, *axis, "default", auc, "class (AUC)", list(classes))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, zorder=1)
    axes.set(xlabel="1 − specificity", ylabel="sensitivity")
    return figure


def draw_precision_recall(results: Results) -> Figure:
    """Return precision over recall of all classes, each against the rest, with the average precision of each."""
    curves = results.precision_recall
    average = {name: float(-np.diff(curve["recall"]) @ curve["precision"][:-1]) for name, curve in curves.items()}
    title, classes = "class (average precision)", list(results.shown.per_class)
    figure, axes = _curves(curves, "recall", "precision", "steps-post", average, title, classes)
    axes.set(xlabel="recall", ylabel="precision")
    return figure


def _curves(
    curves: dict[str, pd.DataFrame],
    x: str,
    y: str,
    drawstyle: str,
    scores: Mapping[str, float | None],
    title: str,
    classes: Sequence[str],
) -> tuple[Figure, Axes]:
    """Return a figure with the curve of each class in a unit square, and below it what each is, with its score."""
    texts = drawable([f"{name} ({'–' if scores[name] is None else f'{scores[name]:.2f}'})" for name in curves])[0]
    longest = max(len(line) for text in texts for line in text.split("\n"))
    lines = max(text.count("\n") + 1 for text in texts)
    for width in (COLUMN, TWO_COLUMNS):  # the second where what is below would be taller than the curves
        columns = max(1, int(width // (0.45 + 0.062 * longest)))
        below = 0.14 * lines * -(-len(texts) // columns)
        if below < COLUMN:
            break
    figure = Figure(figsize=(width, COLUMN + 0.1 + below), layout="constrained")
    axes = figure.subplots()
    for (name, curve), text in zip(curves.items(), texts, strict=True):
        place = classes.index(name)  # as on the page, whichever classes have a curve
        style = {"color": COLOURS[place % len(COLOURS)], "linestyle": DASHES[place % len(DASHES)]}
        axes.plot(curve[x], curve[y], label=text, drawstyle=drawstyle, **style)
    _unit(axes)
    figure.legend(loc="outside lower center", ncols=columns, title=title, handlelength=2.6)
    return figure, axes


def _unit(axes: Axes) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")


def draw_reliability(reliability: pd.DataFrame) -> Figure:
    """Return accuracy over mean confidence, with 95 % intervals that count images."""
    figure = Figure(figsize=(COLUMN, COLUMN), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.6, zorder=1)
    for place, (name, rows) in enumerate(reliability.groupby("probabilities", sort=False)):
        reach = [rows["accuracy"] - rows["low"], rows["high"] - rows["accuracy"]]
        style: dict[str, Any] = {"marker": "os"[place], "color": COLOURS[place], "linestyle": DASHES[place]}
        axes.errorbar(rows["confidence"], rows["accuracy"], reach, label=str(name), linewidth=0.7, **style)
    _unit(axes)
    axes.set(xlabel="mean probability of the likeliest class", ylabel="share that is right")
    axes.legend(loc="upper left")
    return figure


def draw_trade_off(trade_off: pd.DataFrame, chosen: float) -> Figure:
    """Return accuracy over balanced accuracy of the validation images, a dot for each exponent of the prior."""
    figure = Figure(figsize=(COLUMN, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(trade_off["balanced_accuracy"], trade_off["accuracy"], "o-", color=COLOURS[0], markersize=2.5)
    for exponent, accuracy, balanced in trade_off[["prior_exponent", "accuracy", "balanced_accuracy"]].to_numpy():
        text = f"{exponent:g}".replace("-", "−")
        here = np.isclose(exponent, chosen)  # the table has nine digits
        if here:
            label = f"exponent {text}, as in this run"
            axes.plot(balanced, accuracy, "s", color=COLOURS[1], markersize=6, label=label)
        if here or exponent in (-1, 0, 1):
            axes.annotate(text, (balanced, accuracy), (5, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel="balanced accuracy", ylabel="accuracy")
    axes.margins(0.1)
    axes.locator_params(nbins=5)
    figure.legend(loc="outside lower center")
    return figure


def draw_training(log: Log) -> Figure:
    """Return loss and accuracy by epoch, with a line at the epoch that was kept."""
    best = log["eval", "loss"]["step"].iloc[int(log["eval", "loss"]["loss"].argmin())]
    figure = Figure(figsize=(TWO_COLUMNS, 2.5), layout="constrained")
    for axes, (name, label) in zip(
        figure.subplots(1, 2), {"loss": "cross-entropy", "accuracy": "accuracy"}.items(), strict=True
    ):
        for place, (part, text) in enumerate({"eval": "validation", "train": "training"}.items()):
            curve = log[part, name]
            style: dict[str, Any] = {"color": COLOURS[place], "linestyle": DASHES[place]}
            # of one epoch there is no line
            axes.plot(curve["step"], curve[name], marker="o" if len(curve) == 1 else "", label=text, **style)
        axes.axvline(best, color=GREY, linewidth=0.8, linestyle=DASHES[2], label="the epoch that is kept")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch", ylabel=label, ylim=(0, None if name == "loss" else 1.01))
    handles, texts = axes.get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside lower center", ncols=3, handlelength=2.6)
    return figure


def draw_subgroups(subgroups: list[dict[str, Any]], shown: Metrics) -> Figure:
    """Return balanced accuracy of each subgroup with its 95 % interval as a forest plot, beside that of all images.

    A subgroup of under FEW images is grey and hollow; one without a value has a dash.
    """
    names = drawable([row["group"] for row in subgroups])[0]
    variables = dict.fromkeys(row["variable"] for row in subgroups)
    figure = Figure((1.5 * COLUMN, 0.9 + 0.15 * (len(subgroups) + len(variables))), layout="constrained")
    axes = figure.subplots()
    axes.axvline(shown.balanced_accuracy, color=GREY, linewidth=0.8, linestyle=DASHES[1], label="all images")
    if shown.balanced_accuracy_ci:
        axes.axvspan(*shown.balanced_accuracy_ci, color=GREY, alpha=0.15, linewidth=0)
    lines: list[dict[str, Any] | None] = []  # None: the head of a variable
    texts = []
    for variable in variables:
        lines.append(None)
        texts.append(variable.replace("_", " "))
        for row, name in zip(subgroups, names, strict=True):
            if row["variable"] == variable:
                lines.append(row)
                texts.append(name)
    axes.set_yticks(range(len(lines)), texts)
    at_right: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 7}
    axes.text(1.03, 0, "images", **at_right)
    for place, (line, tick) in enumerate(zip(lines, axes.get_yticklabels(), strict=True)):
        if line is None:
            tick.set_fontweight("bold")
            continue
        axes.text(1.03, place, line["images"], **at_right)
        found: Estimate = line["estimate"]
        if found.value is None:
            axes.text(0.01, place, "–", va="center")
            continue
        few = int(line["images"]) < FEW
        colour = GREY if few else COLOURS[0]
        if found.low is not None and found.high is not None:
            axes.plot([found.low, found.high], [place, place], color=colour, linewidth=0.8)
        axes.plot(found.value, place, "o", color=colour, markerfacecolor="white" if few else colour)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1), ylim=(len(lines) - 0.4, -0.6), xlabel="balanced accuracy, 95 % interval")
    figure.legend(loc="outside lower center", handlelength=2.6)
    return figure


def draw_distribution(distribution: pd.DataFrame) -> Figure:
    """Return the number of images of each class as bars, and that of lesions where they are known."""
    names, places = drawable(list(distribution["label"]))[0], np.arange(len(distribution))
    counts = {name: distribution[name] for name in ("images", "lesions") if (distribution[name] != "").all()}
    height = 0.8 / len(counts)
    lines = sum(max(name.count("\n") + 1, len(counts)) for name in names)
    figure = Figure(figsize=(COLUMN, 0.8 + 0.14 * lines), layout="constrained")
    axes = figure.subplots()
    for place, (name, values) in enumerate(counts.items()):
        at = places + (place - (len(counts) - 1) / 2) * height
        bars = axes.barh(at, values.astype(int), height, color=[COLOURS[0], COLOURS[6]][place], label=name)
        axes.bar_label(bars, padding=2, fontsize=6)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.15)
    if len(counts) > 1:
        axes.legend(loc="lower right")
    else:
        axes.set_xlabel("images")
    return figure
