"""Line charts as coordinates: what a template needs to draw one as SVG, in its own colours and type."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

Points = list[tuple[float, float]]
Ticks = list[tuple[float, str]]
STYLES = ("first", "second")
ROC_AXES = "1 \N{MINUS SIGN} specificity", "sensitivity"
PRECISION_RECALL_AXES = "recall", "precision"
# Of the lines of classes: Okabe and Ito's without yellow, some darker, so that each can be seen on white. style.css and
# the templates of dvc plots have the same; with the patterns of dashes of style.css 28 classes differ.
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#16191d", "#b37a00", "#2b8cc4"]
DASHES = 4


@dataclass(frozen=True)
class Line:
    """A line in pixels.

    Attributes:
        style: first | second | guide, or that of a class: what the template makes of it.
        points: (n, 2), from the upper left corner.
        dots: whether each point is marked.
        bars: intervals, each (x, upper end, lower end).
    """

    style: str
    points: Points
    dots: bool = False
    bars: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The points as the attribute `d` of an SVG path, in its shortest words."""
        words, (x, y) = [f"M{self.points[0][0]:g} {self.points[0][1]:g}"], self.points[0]
        for new_x, new_y in self.points[1:]:
            words.append(f"H{new_x:g}" if new_y == y else f"V{new_y:g}" if new_x == x else f"L{new_x:g} {new_y:g}")
            x, y = new_x, new_y
        return "".join(words)


@dataclass(frozen=True)
class Chart:
    """A chart of `width` x `height` pixels whose lines lie in the box from (left, top) to (right, bottom)."""

    width: int
    height: int
    left: int
    top: int
    right: int
    bottom: int
    x_label: str
    y_label: str
    x_ticks: Ticks
    y_ticks: Ticks
    lines: list[Line]


def draw_chart(
    lines: Sequence[tuple[str, ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] = (0, 1),
    y_range: tuple[float, float] = (0, 1),
    size: tuple[int, int] = (340, 240),
    ticks: int = 5,
    dots: bool = False,
) -> Chart:
    """Return the chart of some lines, each (style, x, y), with some `ticks` steps on each axis at most."""
    width, height = size
    left, top, right, bottom = 42, 10, width - 12, height - 40
    x_range, y_range = (low_high if low_high[0] < low_high[1] else (0, 1) for low_high in (x_range, y_range))

    def place(x: ArrayLike, y: ArrayLike) -> Points:
        columns = np.interp(np.asarray(x), x_range, (left, right)), np.interp(np.asarray(y), y_range, (bottom, top))
        points = np.column_stack(columns).round(1)
        # where a curve has thousands of points, most are the same to a tenth of a pixel
        new = np.append(True, (np.diff(points, axis=0) != 0).any(axis=1))
        return [(float(px), float(py)) for px, py in points[new]]

    x_values, y_values = _ticks(x_range, ticks), _ticks(y_range, ticks)
    return Chart(
        width, height, left, top, right, bottom, x_label, y_label,
        x_ticks=[(place(value, y_range[0])[0][0], f"{value:g}") for value in x_values],
        y_ticks=[(place(x_range[0], value)[0][1], f"{value:g}") for value in y_values],
        lines=[Line(style, place(x, y), dots and style != "guide") for style, x, y in lines],
    )  # fmt: skip


def _ticks(low_high: tuple[float, float], count: int) -> list[float]:
    values = np.round(MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(*low_high), 10)
    return [float(value) for value in values if low_high[0] <= value <= low_high[1]]


def training_chart(training: pd.DataFrame, validation: pd.DataFrame, name: str, best: int) -> Chart:
    """Return the chart of a logged value, column `name` over `step`, with a guide at the epoch that was kept."""
    values = np.concatenate([training[name], validation[name]])
    low, high = float(min(values.min(), 0)), float(max(1, values.max()))
    last = float(max(training["step"].max(), 1))
    return draw_chart(
        [
            ("guide", [best, best], [low, high]),
            ("second", training["step"], training[name]),
            ("first", validation["step"], validation[name]),
        ],
        "epoch",
        name,
        x_range=(0, last),
        y_range=(low, high),
    )


def reliability_chart(reliability: pd.DataFrame) -> Chart:
    """Return the chart of accuracy over mean confidence, with the diagonal where they are equal.

    Each dot has its interval, from `low` to `high`. One line, or two where the column `probabilities` tells those as
    predicted (first) from calibrated ones (second).
    """
    curves = dict(zip(STYLES, (rows for _, rows in reliability.groupby("probabilities", sort=False)), strict=False))
    lines: list[tuple[str, ArrayLike, ArrayLike]] = [("guide", [0, 1], [0, 1])]
    lines += [(style, rows["confidence"], rows["accuracy"]) for style, rows in curves.items()]
    chart = draw_chart(
        lines, "mean probability of the likeliest class", "share that is right", size=(340, 300), dots=True
    )
    axes = {
        "confidence": (chart.left, chart.right),
        "high": (chart.bottom, chart.top),
        "low": (chart.bottom, chart.top),
    }
    bars = {
        style: pd.DataFrame({name: np.interp(rows[name], (0, 1), axis).round(1) for name, axis in axes.items()})
        for style, rows in curves.items()
    }
    lines_with_bars = [
        replace(line, bars=list(bars[line.style].itertuples(index=False, name=None)) if line.style in bars else [])
        for line in chart.lines
    ]
    return replace(chart, lines=lines_with_bars)


def trade_off_chart(trade_off: pd.DataFrame, chosen: float) -> Chart:
    """Return the chart of accuracy over balanced accuracy, a dot for each exponent; the chosen one as a second line."""
    x, y = trade_off["balanced_accuracy"], trade_off["accuracy"]
    here = np.isclose(trade_off["prior_exponent"], chosen)  # the table has nine digits
    return draw_chart(
        [("first", x, y), ("second", x[here], y[here])],
        "balanced accuracy",
        "accuracy",
        x_range=_around(x),
        y_range=_around(y),
        size=(340, 300),
        dots=True,
    )


def _around(values: "pd.Series[float]") -> tuple[float, float]:
    """Return a range with some room around the values."""
    room = 0.05 * float(values.max() - values.min()) or 0.05
    return float(values.min()) - room, float(values.max()) + room


def roc_chart(curve: pd.DataFrame) -> Chart:
    """Return the chart of one class's ROC curve, with the diagonal of guessing."""
    return draw_chart([("guide", [0, 1], [0, 1]), ("first", *roc_line(curve))], *ROC_AXES, size=(170, 160), ticks=2)


def precision_recall_chart(curve: pd.DataFrame, prevalence: float) -> Chart:
    """Return the chart of one class's precision over its recall, with the precision of guessing, the prevalence."""
    guess, line = ("guide", [0, 1], [prevalence, prevalence]), ("first", *precision_recall_line(curve))
    return draw_chart([guess, line], *PRECISION_RECALL_AXES, size=(170, 160), ticks=2)


def overview_charts(
    roc: Mapping[str, pd.DataFrame], precision_recall: Mapping[str, pd.DataFrame], styles: Mapping[str, str]
) -> tuple[Chart, Chart]:
    """Return the charts of the ROC and the precision-recall curves of all classes, each in the style of its class."""
    roc_lines = [("guide", [0, 1], [0, 1]), *((styles[name], *roc_line(curve)) for name, curve in roc.items())]
    lines = [(styles[name], *precision_recall_line(curve)) for name, curve in precision_recall.items()]
    size = (340, 306)
    return draw_chart(roc_lines, *ROC_AXES, size=size), draw_chart(lines, *PRECISION_RECALL_AXES, size=size)


def roc_line(curve: pd.DataFrame) -> tuple[ArrayLike, ArrayLike]:
    """Return x and y of a ROC curve, which is a staircase but where images of both kinds have one probability."""
    return curve["false_positive_rate"], curve["true_positive_rate"]


def precision_recall_line(curve: pd.DataFrame) -> tuple[ArrayLike, ArrayLike]:
    """Return x and y of a precision-recall curve, as steps: precision between two of its points is not on the line
    between them."""
    return curve["recall"].to_numpy().repeat(2)[1:], curve["precision"].to_numpy().repeat(2)[:-1]


def class_styles(classes: Sequence[str]) -> dict[str, str]:
    """Return the style of each class's line: a colour and a pattern of dashes."""
    return {name: f"colour-{i % len(COLOURS)} dash-{i % DASHES}" for i, name in enumerate(classes)}
