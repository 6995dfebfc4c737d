"""Comparing runs: pairs of prediction tables with known answers."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from dermoscopy.scoring.bootstrap import DRAWS, bootstrap
from dermoscopy.scoring.comparison import compare, mcnemar, verdict
from dermoscopy.scoring.definitions import count_metrics
from dermoscopy.scoring.metrics import HEADLINES, OF_A_CLASS, point_metrics
from tests.support.prediction_tables import drawn_images, make_run, worsened


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return drawn_images(600, skill=2)


def test_differences_are_those_of_the_metrics(table: pd.DataFrame) -> None:
    worse = worsened(table, 40)
    found = compare(make_run("a", table), make_run("b", worse)).metrics
    ours, theirs = point_metrics(table), point_metrics(worse)
    pairs = {name: (getattr(ours, name), getattr(theirs, name)) for name in HEADLINES}
    for label, values in ours.per_class.items():
        for name in OF_A_CLASS:
            pairs[f"{label} {name}"] = getattr(values, name), getattr(theirs.per_class[label], name)
    assert list(found.index) == list(pairs)
    for name, (first, other) in pairs.items():
        assert list(found.loc[name, ["first", "other", "difference"]]) == pytest.approx([first, other, other - first])
    assert ((found["low"] <= found["difference"] + 1e-12) & (found["difference"] <= found["high"] + 1e-12)).all()


def test_both_are_drawn_with_the_same_lesions(table: pd.DataFrame) -> None:
    worse = worsened(table, 3)
    row = compare(make_run("a", table), make_run("b", worse)).metrics.loc["accuracy"]
    samples = [
        bootstrap(count_metrics(images), images["lesion_id"], seed)["accuracy"]
        for images, seed in ((table, 1), (worse, 2))
    ]
    low, high = np.quantile(samples[1] - samples[0], [0.025, 0.975])
    assert len(samples[0]) == DRAWS
    # three of 600 images: paired, that is hardly any spread; with other lesions for each it would be much
    assert row["high"] - row["low"] < (high - low) / 4
    assert row["high"] <= 0


def test_a_run_does_not_differ_from_itself(table: pd.DataFrame) -> None:
    same = compare(make_run("a", table), make_run("b", table))
    assert (same.metrics[["difference", "low", "high"]] == 0).all(axis=None)
    assert (same.p_value, same.mcnemar, same.only_first, same.only_other) == (1, 1, 0, 0)
    assert verdict(make_run("a", table), make_run("b", table), same).startswith("b is not distinguishable from a")


def test_what_is_much_better_or_worse_is_called_so_both_ways(table: pd.DataFrame) -> None:
    good, bad = make_run("good", table), make_run("bad", worsened(table, 60))
    assert verdict(good, bad, compare(good, bad)).startswith("bad is worse than good: balanced accuracy -0.")
    assert verdict(bad, good, compare(bad, good)).startswith("good is better than bad: balanced accuracy +0.")
    assert "600 images of 3" in verdict(bad, good, compare(bad, good))


def test_runs_of_equal_skill_are_rarely_told_apart() -> None:
    told_apart = 0
    for seed in range(20):
        first, other = (drawn_images(150, seed=seed, skill=1.5), drawn_images(150, seed=seed, skill=1.5))
        noise = np.random.default_rng(100 + seed).random(150)
        # each has other images wrong, equally often
        first.loc[noise < 0.1, "predicted"] = "nv"
        other.loc[noise > 0.9, "predicted"] = "nv"
        pair = make_run("a", first), make_run("b", other)
        told_apart += "not distinguishable" not in verdict(*pair, compare(*pair))
    assert told_apart <= 4  # 1 is expected; more than 4 come by chance three times in a thousand


def test_a_corrected_p_value_can_take_a_difference_back(table: pd.DataFrame) -> None:
    first, other = make_run("a", table), make_run("b", worsened(table, 60))
    difference = compare(first, other)
    assert "worse" in verdict(first, other, difference, p_corrected=0.049)
    assert "not distinguishable" in verdict(first, other, difference, p_corrected=0.05)


def test_a_class_of_one_lesion_has_a_difference_without_interval(table: pd.DataFrame) -> None:
    alone = table.assign(lesion_id=table["lesion_id"].mask(table["label"] == "akiec", "the only one"))
    row = compare(make_run("a", alone), make_run("b", worsened(alone, 60))).metrics.loc["akiec recall"]
    assert np.isfinite(row["difference"])
    assert np.isnan([row["low"], row["high"]]).all()


@pytest.mark.parametrize(("only_first", "only_other"), [(0, 0), (5, 5), (1, 9), (9, 1), (0, 4), (30, 12)])
def test_mcnemars_p_value_is_that_of_a_fair_coin(only_first: int, only_other: int) -> None:
    tail = 2 * binom.cdf(min(only_first, only_other), only_first + only_other, 0.5)
    assert mcnemar(only_first, only_other) == pytest.approx(min(1, tail))


def test_the_images_that_only_one_has_right_are_counted(table: pd.DataFrame) -> None:
    found = compare(make_run("a", worsened(table, 7)), make_run("b", table))
    assert (found.only_first, found.only_other) == (0, 7)
    assert found.mcnemar == pytest.approx(2 / 2**7)
