"""Line charts as coordinates: what a template needs to draw one as SVG, in its own colours and type."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

Ticks = list[tuple[float, str]]
STYLES = ("first", "second")


@dataclass(frozen=True)
class Line:
    """A line in pixels.

    Attributes:
        style: first | second | guide: what the template makes of it.
        points: (n, 2), from the upper left corner.
        dots: whether each point is marked.
    """

    style: str
    points: list[tuple[float, float]]
    dots: bool = False

    @property
    def svg_points(self) -> str:
        """The points as the attribute of an SVG polyline."""
        return " ".join(f"{x:g},{y:g}" for x, y in self.points)


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

    def place(x: ArrayLike, y: ArrayLike) -> list[tuple[float, float]]:
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

    One line, or two where the column `probabilities` tells those as predicted (first) from calibrated ones (second).
    """
    lines: list[tuple[str, ArrayLike, ArrayLike]] = [("guide", [0, 1], [0, 1])]
    curves = reliability.groupby("probabilities", sort=False)
    lines += [
        (style, curve["confidence"], curve["accuracy"]) for style, (_, curve) in zip(STYLES, curves, strict=False)
    ]
    return draw_chart(
        lines, "mean probability of the likeliest class", "share that is right", size=(340, 300), dots=True
    )


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
    return _small(
        curve, "false_positive_rate", "true_positive_rate", "1 \N{MINUS SIGN} specificity", "sensitivity", [0, 1]
    )


def precision_recall_chart(curve: pd.DataFrame, prevalence: float) -> Chart:
    """Return the chart of one class's precision over its recall, with the precision of guessing, the prevalence."""
    # steps, because precision between two points of a curve is not on the line between them
    recall, precision = curve["recall"].to_numpy().repeat(2)[1:], curve["precision"].to_numpy().repeat(2)[:-1]
    steps = pd.DataFrame({"recall": recall, "precision": precision})
    return _small(steps, "recall", "precision", "recall", "precision", [prevalence, prevalence])


def _small(curve: pd.DataFrame, x: str, y: str, x_label: str, y_label: str, guess: list[float]) -> Chart:
    lines: list[tuple[str, ArrayLike, ArrayLike]] = [("guide", [0, 1], guess), ("first", curve[x], curve[y])]
    return draw_chart(lines, x_label, y_label, size=(170, 160), ticks=2)
