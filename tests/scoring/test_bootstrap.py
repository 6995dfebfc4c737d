"""The bootstrap: it draws lesions, and its intervals cover what they should."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from dermoscopy.scoring.bootstrap import bootstrap, interval
from dermoscopy.scoring.definitions import area_under_roc, count_metrics
from tests.support.prediction_tables import make_predictions

LESIONS = pd.Series(["a", "b", "b", "c", "c", "c"])


def weights_drawn(lesions: "pd.Series[str]", seed: int, draws: int = 2000) -> Any:
    return bootstrap(lambda weights: {"weights": weights}, lesions, seed, draws)["weights"]


def test_as_many_lesions_are_drawn_as_there_are_and_all_their_images_with_them() -> None:
    weights = weights_drawn(LESIONS, seed=1)
    assert weights.shape == (2000, 6)
    a, b, c = weights[:, 0], weights[:, 1], weights[:, 3]
    assert (weights == np.stack([a, b, b, c, c, c], axis=1)).all()
    assert (a + b + c == 3).all()


def test_each_lesion_is_drawn_equally_often() -> None:
    weights = weights_drawn(LESIONS, seed=1, draws=20_000)
    assert np.allclose(weights.mean(axis=0), 1, atol=0.03)
    assert np.allclose(weights.var(axis=0), 2 / 3, atol=0.03)  # binomial, three draws of one in three


def test_the_seed_decides_the_draws_and_the_order_of_the_images_does_not() -> None:
    first, other = weights_drawn(LESIONS, seed=1), weights_drawn(LESIONS, seed=2)
    assert not np.array_equal(first, other)
    order = [3, 0, 5, 1, 4, 2]
    assert np.array_equal(weights_drawn(LESIONS.iloc[order], seed=1), first[:, order])


@pytest.mark.parametrize("draws", [1, 99, 100, 101])
def test_any_number_of_draws_can_be_had(draws: int) -> None:
    assert len(weights_drawn(LESIONS, seed=1, draws=draws)) == draws


def test_every_draw_is_reported_and_reporting_changes_none() -> None:
    lesions, counts = pd.Series(np.arange(1000).astype(str)), list[int]()
    draws = bootstrap(lambda weights: {"weights": weights}, lesions, 1, 400, counts.append)["weights"]
    assert len(counts) > 1
    assert sum(counts) == 400
    assert np.array_equal(draws, weights_drawn(lesions, seed=1, draws=400))


def test_an_interval_leaves_out_what_is_undefined() -> None:
    draws = np.array([np.nan, *range(101), np.nan], float)
    assert interval(draws) == pytest.approx([2.5, 97.5])
    assert interval(np.array([np.nan, np.nan])) is None


def test_draws_that_agree_give_no_interval() -> None:
    assert interval(np.array([0.5, 0.5, np.nan, 0.5])) is None
    assert interval(np.array([1.0] * 99 + [0.9])) is None  # both percentiles are 1
    assert interval(np.array([0.5, 0.6])) == pytest.approx((0.5025, 0.5975))


def covered(random: np.random.Generator, clustered: bool) -> tuple[bool, bool]:
    """Draw 150 images of 50 lesions, right or wrong all alike or each for itself; say what the intervals cover.

    Returns:
        Whether the interval over lesions, and whether one over images, holds the true accuracy, 0.7.
    """
    lesion = np.repeat(np.arange(50), 3)
    right = random.random(50)[lesion] < 0.7 if clustered else random.random(150) < 0.7
    table = make_predictions(
        ["nv"] * 150, np.stack([~right, right], axis=1).astype(float), ["mel", "nv"], lesions=[f"{n}" for n in lesion]
    )
    found = []
    for groups in (table["group_id"], table["image_id"]):
        draws = bootstrap(count_metrics(table), groups, int(random.integers(2**32)), 500)
        low, high = interval(draws["accuracy"]) or (np.nan, np.nan)
        found.append(low <= 0.7 <= high)
    return found[0], found[1]


def test_95_percent_intervals_cover_the_truth_in_about_95_percent_of_samples() -> None:
    random = np.random.default_rng(0)
    over_lesions = np.mean([covered(random, clustered=False)[0] for _ in range(300)])
    assert 0.90 <= over_lesions <= 0.98


def test_where_images_of_a_lesion_are_alike_only_drawing_lesions_covers_the_truth() -> None:
    random = np.random.default_rng(0)
    over_lesions, over_images = np.mean([covered(random, clustered=True) for _ in range(300)], axis=0)
    assert 0.90 <= over_lesions <= 0.98
    assert over_images < 0.80


def test_intervals_of_the_auc_cover_the_true_one() -> None:
    random = np.random.default_rng(1)
    truth, hits = norm.cdf(1 / np.sqrt(2)), 0  # of two normal distributions one standard deviation apart
    for _ in range(300):
        positive = np.arange(120) < 40
        scores = random.normal(size=120) + positive

        auc = area_under_roc(positive, scores)

        def statistic(weights: Any, auc: Any = auc) -> dict[str, Any]:
            return {"auc": auc(weights)}

        draws = bootstrap(statistic, pd.Series(np.arange(120).astype(str)), int(random.integers(2**32)), 500)
        low, high = interval(draws["auc"]) or (np.nan, np.nan)
        hits += low <= truth <= high
    assert 0.90 <= hits / 300 <= 0.98
