"""Comparing runs: pairs of prediction tables with known answers, and how often equal runs are told apart."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, t, ttest_1samp

from dermoscopy.scoring.bootstrap import DRAWS, bootstrap
from dermoscopy.scoring.comparison import (
    compare,
    contributions,
    corrected_difference,
    holm,
    mcnemar,
    sign_flip_test,
    verdict,
)
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
    known = found.dropna()
    assert ((known["low"] <= known["difference"] + 1e-12) & (known["difference"] <= known["high"] + 1e-12)).all()
    # what is the same of all images is the same in all bootstrap samples, which is no interval
    assert (found["low"].isna() == (found["difference"] == 0)).all()


def test_both_are_drawn_with_the_same_lesions(table: pd.DataFrame) -> None:
    worse = worsened(table, 3)
    row = compare(make_run("a", table), make_run("b", worse)).metrics.loc["accuracy"]
    samples = [
        bootstrap(count_metrics(images), images["group_id"], seed)["accuracy"]
        for images, seed in ((table, 1), (worse, 2))
    ]
    low, high = np.quantile(samples[1] - samples[0], [0.025, 0.975])
    assert len(samples[0]) == DRAWS
    # three of 600 images: paired, that is hardly any spread; with other lesions for each it would be much
    assert row["high"] - row["low"] < (high - low) / 4
    assert row["high"] <= 0


def test_a_run_is_identical_with_itself(table: pd.DataFrame) -> None:
    same = compare(make_run("a", table), make_run("b", table))
    assert (same.metrics["difference"] == 0).all()
    assert same.metrics[["low", "high"]].isna().all(axis=None)
    assert (same.p_value, same.mcnemar, same.only_first, same.only_other) == (1, 1, 0, 0)
    expected = "a and b are identical: the same predictions for all 600 test images."
    assert verdict(make_run("a", table), make_run("b", table), same) == expected


def test_runs_that_differ_in_a_probability_alone_are_not_identical(table: pd.DataFrame) -> None:
    other = table.assign(p_mel=table["p_mel"] + 1e-3 * (table.index == 7))
    pair = make_run("a", table), make_run("b", other)
    assert verdict(*pair, compare(*pair)).startswith(
        "b is not distinguishable from a with this much data: balanced accuracy +0.000, no interval, p = 1, on 600 "
    )


def test_what_is_much_better_or_worse_is_called_so_both_ways(table: pd.DataFrame) -> None:
    good, bad = make_run("good", table), make_run("bad", worsened(table, 60))
    assert verdict(good, bad, compare(good, bad)).startswith("bad is worse than good: balanced accuracy -0.")
    assert verdict(bad, good, compare(bad, good)).startswith("good is better than bad: balanced accuracy +0.")
    assert "p = 0.0001, on 600 images of 3" in verdict(bad, good, compare(bad, good))


def test_runs_of_equal_skill_are_told_apart_in_5_percent_of_samples() -> None:
    told_apart = 0
    for seed in range(400):
        first = drawn_images(150, seed=seed, skill=1.5)
        other, noise = first.copy(), np.random.default_rng(1000 + seed).random(150)
        # each has other images wrong, equally often
        first.loc[noise < 0.1, "predicted"] = "nv"
        other.loc[noise > 0.9, "predicted"] = "nv"
        told_apart += sign_flip_test(contributions(first, other), seed, flips=1000) < 0.05
    assert 0.02 <= told_apart / 400 <= 0.075  # a standard error is 0.011


def test_contributions_of_lesions_add_up_to_the_difference_in_balanced_accuracy(table: pd.DataFrame) -> None:
    worse = worsened(table, 40)
    found = contributions(table, worse)
    assert len(found) == table["group_id"].nunique()
    expected = point_metrics(worse).balanced_accuracy - point_metrics(table).balanced_accuracy
    assert found.sum() == pytest.approx(expected)
    assert contributions(worse, table) == pytest.approx(-found)


def test_the_sign_flip_test_has_the_p_value_of_all_signs_counted_by_hand() -> None:
    # of 16 signs, 1 2 3 4 and its opposite are as far out; of 3 and 1 all four but those with opposite signs
    assert sign_flip_test(np.array([1.0, 2, 3, 4]), seed=1) == pytest.approx(2 / 16, abs=0.01)
    assert sign_flip_test(np.array([-3.0, 0, -1]), seed=1) == pytest.approx(1 / 2, abs=0.02)
    assert sign_flip_test(np.array([0.2]), seed=1) == 1  # a single lesion proves nothing
    assert sign_flip_test(np.array([0.1, -0.1]), seed=1) == 1
    assert sign_flip_test(np.zeros(5), seed=1) == 1
    assert sign_flip_test(np.ones(50), seed=1, flips=999) == 0.001  # never 0


def test_the_seed_decides_the_signs() -> None:
    values = np.linspace(-1, 1.5, 30)
    assert sign_flip_test(values, seed=1) == sign_flip_test(values, seed=1) != sign_flip_test(values, seed=2)


def test_holms_correction_is_that_computed_by_hand() -> None:
    # 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, none below the one before
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])
    assert holm([0.2]) == [0.2]


def test_a_corrected_p_value_can_take_a_difference_back(table: pd.DataFrame) -> None:
    first, other = make_run("a", table), make_run("b", worsened(table, 60))
    difference = compare(first, other)
    assert "worse" in verdict(first, other, difference, p_corrected=0.049)
    assert "not distinguishable" in verdict(first, other, difference, p_corrected=0.05)


def test_a_class_of_one_lesion_has_a_difference_without_interval(table: pd.DataFrame) -> None:
    alone = table.assign(group_id=table["group_id"].mask(table["label"] == "akiec", "the only one"))
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


class TestCorrectedDifference:
    """The difference between two ways of training, each trained several times."""

    def test_without_test_images_to_speak_of_it_is_students_test(self) -> None:
        values = np.array([0.03, 0.01, 0.05, -0.02, 0.04])
        expected = ttest_1samp(values, 0)
        found = corrected_difference(values, 1, 10**9)
        limits = expected.confidence_interval(0.95)
        assert (found.mean, found.p_value) == pytest.approx((values.mean(), expected.pvalue))
        assert (found.low, found.high) == pytest.approx((limits.low, limits.high))

    def test_it_is_that_computed_by_hand(self) -> None:
        # variance 0.0002, times 1/2 + 200/1000; one degree of freedom
        found = corrected_difference(np.array([0.03, 0.01]), 200, 1000)
        error = (0.7 * 0.0002) ** 0.5
        assert found.p_value == pytest.approx(2 * t.sf(0.02 / error, 1))
        assert found.high == pytest.approx(0.02 + 12.7062 * error, rel=1e-5)

    def test_equal_differences_are_no_proof(self) -> None:
        none, some = (corrected_difference(np.array([value, value]), 10, 100) for value in (0.0, 0.1))
        assert (none.mean, none.low, none.high, none.p_value) == (0, None, None, 1)
        assert (some.mean, some.low, some.high, some.p_value) == (0.1, None, None, None)

    @pytest.mark.parametrize(("count", "test", "training"), [(0, 10, 10), (1, 10, 10), (2, 0, 10), (2, 10, 0)])
    def test_too_few_are_refused(self, count: int, test: int, training: int) -> None:
        with pytest.raises(ValueError, match="are needed"):
            corrected_difference(np.zeros(count), test, training)
