"""Lines are drawn where their numbers are."""

import json

import numpy as np
import pandas as pd
import pytest

from dermoscopy.page import charts, figures
from dermoscopy.page.charts import (
    Line,
    class_styles,
    draw_chart,
    overview_charts,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    trade_off_chart,
    training_chart,
)
from dermoscopy.page.rendering import TEMPLATES
from dermoscopy.runtime.workspace import PROJECT


def test_the_corners_of_the_ranges_are_the_corners_of_the_box() -> None:
    chart = draw_chart([("first", [0, 5, 10], [2, 3, 4])], "x", "y", x_range=(0, 10), y_range=(2, 4))
    assert chart.lines[0].points == [
        (chart.left, chart.bottom),
        ((chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2),
        (chart.right, chart.top),
    ]


def test_ticks_stand_at_round_numbers_inside_the_range() -> None:
    chart = draw_chart([], "x", "y", x_range=(1, 49), y_range=(0, 1))
    assert [text for _, text in chart.x_ticks] == ["10", "20", "30", "40"]
    assert [text for _, text in chart.y_ticks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert (chart.left, chart.bottom) < (chart.x_ticks[0][0], chart.bottom)
    assert [y for y, _ in chart.y_ticks] == sorted((y for y, _ in chart.y_ticks), reverse=True)


def test_a_range_of_one_value_is_drawn_all_the_same() -> None:
    chart = draw_chart([("first", [1], [1])], "x", "y", x_range=(1, 1))
    assert len(chart.lines[0].points) == 1


def test_points_that_fall_together_are_drawn_once() -> None:
    x = np.linspace(0, 1, 100_000)
    chart = roc_chart(pd.DataFrame({"false_positive_rate": x, "true_positive_rate": np.sqrt(x)}))
    assert 100 < len(chart.lines[1].points) < 4000
    assert len(chart.lines[1].path) < 40_000


def test_a_path_has_the_same_points_in_fewer_words() -> None:
    line = Line("first", [(42, 120), (42, 10.5), (90.1, 10.5), (100, 20), (100, 30)])
    assert line.path == "M42 120V10.5H90.1L100 20V30"
    assert Line("first", [(1, 2)]).path == "M1 2"


def test_precision_is_drawn_as_steps_over_guessing() -> None:
    curve = pd.DataFrame({"recall": [1, 0.5, 0], "precision": [0.25, 0.5, 1]})
    chart = precision_recall_chart(curve, prevalence=0.25)
    guess, line = chart.lines
    right, middle, left = chart.right, (chart.left + chart.right) / 2, chart.left
    heights = {text: y for y, text in chart.y_ticks}
    quarter = (heights["0"] + heights["0.5"]) / 2
    assert guess.points == [(left, quarter), (right, quarter)]
    assert line.points == [
        (right, quarter), (middle, quarter), (middle, heights["0.5"]), (left, heights["0.5"]), (left, heights["1"]),
    ]  # fmt: skip


def test_reliability_marks_its_points_with_their_intervals_and_not_those_of_the_diagonal() -> None:
    rows = {"confidence": [0.5, 0.9999, 1.0], "accuracy": [0.2, 1, 1], "low": [0, 0.5, 0.5], "high": [0.5, 1, 1]}
    tables = [pd.DataFrame(rows).assign(probabilities=name) for name in ("as predicted", "calibrated")]
    chart = reliability_chart(pd.concat(tables))
    assert [line.dots for line in chart.lines] == [False, True, True]
    middle, half = (chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2
    assert [len(line.bars) for line in chart.lines] == [0, 3, 3]  # also of points that fall together
    assert chart.lines[1].bars[::2] == [(middle, half, chart.bottom), (chart.right, chart.top, half)]


def test_the_lines_of_28_classes_differ_in_colour_or_dashes_and_those_of_4_in_both() -> None:
    styles = class_styles([f"class {number}" for number in range(28)])
    assert len(set(styles.values())) == 28
    first = [style.split() for style in styles.values()][:4]
    assert [len(set(parts)) for parts in zip(*first, strict=True)] == [4, 4]


def test_all_classes_are_in_one_chart_each_in_its_style() -> None:
    roc = pd.DataFrame({"false_positive_rate": [0, 0, 1], "true_positive_rate": [0, 0.5, 1]})
    curve = pd.DataFrame({"recall": [1, 0.5, 0], "precision": [0.25, 0.5, 1]})
    styles = class_styles(["a", "b", "c"])
    of_roc, of_precision = overview_charts({"a": roc, "c": roc}, {"a": curve, "c": curve}, styles)
    assert [line.style for line in of_roc.lines] == ["guide", styles["a"], styles["c"]]
    assert [line.style for line in of_precision.lines] == [styles["a"], styles["c"]]
    assert of_precision.lines[0].path.count("L") == 0  # steps


@pytest.mark.parametrize("chosen", [0, 1 / 3, 1])
def test_the_trade_off_marks_the_chosen_exponent_as_the_file_has_it(chosen: float) -> None:
    written = [float(f"{exponent:.9g}") for exponent in (0, 1 / 3, 1)]
    table = pd.DataFrame({"prior_exponent": written, "accuracy": [0.8, 0.7, 0.6], "balanced_accuracy": [0.4, 0.5, 0.6]})
    line, mark = trade_off_chart(table, chosen).lines
    assert mark.points == [line.points[[0, 1 / 3, 1].index(chosen)]]


def test_training_curves_mark_the_epoch_that_is_kept() -> None:
    steps = np.arange(1, 12)
    losses = pd.DataFrame({"step": steps, "loss": np.linspace(3, 0.5, 11)})
    chart = training_chart(losses, losses, "loss", best=11)
    assert [line.style for line in chart.lines] == ["guide", "second", "first"]
    assert {x for x, _ in chart.lines[0].points} == {chart.right}
    assert chart.lines[1].points[0][1] == chart.top


def test_a_class_has_one_colour_on_the_page_in_dvc_plots_and_in_the_figures_for_a_paper() -> None:
    assert figures.COLOURS is charts.COLOURS
    light = (TEMPLATES / "style.css").read_text(encoding="utf-8").split("}")[0]
    assert [f"--c{place}: {colour};" in light for place, colour in enumerate(charts.COLOURS)] == [True] * 7
    for name in ("by_label", "by_label_steps"):
        template = json.loads((PROJECT / f".dvc/plots/{name}.json").read_text(encoding="utf-8"))
        assert template["spec"]["encoding"]["color"]["scale"]["range"] == charts.COLOURS
