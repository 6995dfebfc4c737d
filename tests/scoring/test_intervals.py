"""Intervals by formula: known values, and how often they hold the truth."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, binomtest

from dermoscopy.scoring.intervals import lesions_of_classes, mean_interval, share_interval
from tests.support.prediction_tables import make_predictions


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 3), (3, 3), (2, 7), (60, 80), (1100, 1100)])
def test_the_interval_of_a_share_is_wilsons(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert share_interval(right / count, count) == pytest.approx((expected.low, expected.high))


def test_an_interval_has_a_width_and_holds_its_share() -> None:
    for share in (0, 1e-9, 1 / 3, 2 / 3, 1 - 1e-9, 1):
        for observations in (1, 1.8, 6.37, 1e4):
            low, high = share_interval(share, observations)
            assert 0 <= low <= share <= high <= 1
            assert low < high


def test_lesions_are_counted_of_each_class_and_of_all_others() -> None:
    lesions = ["a", "b", "b", "c", "d", "d", "d"]
    labels = ["mel", "mel", "mel", "nv", "nv", "nv", "nv"]
    table = make_predictions(labels, np.eye(3)[[0] * 7], ["bkl", "mel", "nv"], lesions=lesions)
    of_class, of_others = lesions_of_classes(table)
    assert of_class.tolist() == [0, 2, 2]
    assert of_others.tolist() == [4, 2, 2]


def test_the_interval_of_the_mean_of_one_share_is_that_of_clopper_and_pearson() -> None:
    for right, count in ((0, 1), (5, 7), (7, 7), (3, 1000)):
        expected = binomtest(right, count).proportion_ci(method="exact")
        limits = mean_interval(np.array([right / count]), np.array([float(count)]))
        assert limits == pytest.approx((expected.low, expected.high))


def test_the_interval_of_a_mean_is_that_computed_by_hand() -> None:
    # one right of one, 0.025 to 1; 2/3 of two, 4/3 of a lesion; and a class without images
    limits = mean_interval(np.array([1, 2 / 3, np.nan]), np.array([1, 2, 0]))
    low, high = beta.ppf(0.025, 4 / 3, 2 / 3 + 1), beta.ppf(0.975, 4 / 3 + 1, 2 / 3)
    assert limits == pytest.approx((5 / 6 - np.hypot(0.975, 2 / 3 - low) / 2, 5 / 6 + (high - 2 / 3) / 2))


def draw(
    random: np.random.Generator, lesions: int, recall: float, alike: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many images lesions have, one to three, and how many are right.

    Images of a lesion are right independently, or, if alike, with a correlation of 0.5, which is usual.
    """
    images = random.choice([1, 2, 3], lesions, p=[0.6, 0.25, 0.15])
    return images, random.binomial(images, random.beta(recall, 1 - recall, lesions) if alike else recall)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize(
    ("lesions", "recall", "least"), [(3, 0.5, 0.97), (3, 0.9, 0.93), (7, 0.7, 0.96), (30, 0.9, 0.94), (300, 0.97, 0.93)]
)
def test_the_interval_of_a_recall_covers_it_also_of_few_lesions(
    lesions: int, recall: float, least: float, alike: bool
) -> None:
    random = np.random.default_rng(0)
    held = []
    for _ in range(1000):
        images, right = draw(random, lesions, recall, alike)
        low, high = share_interval(right.sum() / images.sum(), lesions)
        held.append(low <= recall <= high)
    assert np.mean(held) >= least


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("times", [1, 13])
@pytest.mark.parametrize("recalls", [[0.5, 0.6, 0.5, 0.5, 0.55, 0.75, 0.8], [0.9, 0.9, 0.9, 0.9, 0.9, 0.95, 0.98]])
def test_the_interval_of_a_balanced_accuracy_covers_it_where_classes_have_a_lesion_or_two(
    recalls: list[float], times: int, alike: bool
) -> None:
    random = np.random.default_rng(0)
    lesions = times * np.array([3, 4, 8, 1, 7, 61, 1])
    held = []
    for _ in range(500):
        drawn = [draw(random, count, recall, alike) for count, recall in zip(lesions, recalls, strict=True)]
        low, high = mean_interval(np.array([right.sum() / images.sum() for images, right in drawn]), lesions)
        held.append(low <= np.mean(recalls) <= high)
    assert np.mean(held) >= 0.94
