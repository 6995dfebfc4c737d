"""Whether one run is better than another on the same test images: paired differences, intervals and tests."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.groups import of_lesions
from dermoscopy.runtime.progress import progress
from dermoscopy.scoring.bootstrap import CELLS, DRAWS, LEVEL, Floats, bootstrap, interval
from dermoscopy.scoring.definitions import classification_metrics
from dermoscopy.scoring.metrics import HEADLINES, OF_A_CLASS, enough_lesions
from dermoscopy.scoring.predictions import class_names, probabilities_of
from dermoscopy.scoring.runs import Run

SEED = 1  # one for all comparisons: a comparison of two runs does not depend on the params of a third
FLIPS = 10_000
ALPHA = 0.05  # a p-value from here on tells nothing apart


@dataclass(frozen=True)
class Difference:
    """How a run differs from the first one, on the same images.

    Attributes:
        metrics: a row for each metric: first, other, difference, and low and high of its 95 % interval.
        p_value: of the difference in balanced accuracy, by `sign_flip_test`.
        identical: whether both runs predict the same class and probabilities for every image.
        only_first, only_other: how many images only this run has right.
        mcnemar: p-value of McNemar's exact test on these two numbers.
    """

    metrics: pd.DataFrame
    p_value: float
    identical: bool
    only_first: int
    only_other: int
    mcnemar: float


def compare(first: Run, other: Run) -> Difference:
    """Return how `other` differs from `first`; every bootstrap sample has the same lesions for both."""
    of_first, of_other = classification_metrics(first.test), classification_metrics(other.test)

    def both(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        ours, theirs = of_first(weights), of_other(weights)
        return {name: np.stack([ours[name], theirs[name]], axis=1) for name in ours}

    observed = both(np.ones((1, len(first.test))))
    with progress("bootstrap", DRAWS, "draw", in_logs=False) as bar:
        draws = bootstrap(both, first.test["group_id"], SEED, advance=bar.update)
    enough = enough_lesions(first.test)
    rows = {name: [*observed[name][0], *interval_of_difference(draws[name], enough[name])] for name in HEADLINES}
    for i, label in enumerate(class_names(first.test)):
        for name in OF_A_CLASS:
            rows[f"{label} {name}"] = [
                *observed[name][0, :, i],
                *interval_of_difference(draws[name][..., i], enough[name][i]),
            ]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["first", "other", "low", "high"])
    table.insert(2, "difference", table["other"] - table["first"])
    right = [(item.test["label"] == item.test["predicted"]).to_numpy() for item in (first, other)]
    only_first, only_other = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return Difference(
        metrics=table,
        p_value=sign_flip_test(contributions(first.test, other.test), SEED),
        identical=bool(
            (first.test["predicted"] == other.test["predicted"]).all()
            and np.array_equal(probabilities_of(first.test), probabilities_of(other.test))
        ),
        only_first=only_first,
        only_other=only_other,
        mcnemar=mcnemar(only_first, only_other),
    )


def interval_of_difference(draws: NDArray[np.float64], enough: bool | NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of second minus first of draws, (n, 2); NaN where there is none."""
    return (interval(draws[:, 1] - draws[:, 0]) if enough else None) or (np.nan, np.nan)


def contributions(first: pd.DataFrame, other: pd.DataFrame) -> Floats:
    """Return what each lesion, (lesions,), adds to the difference in balanced accuracy, other minus first.

    An image adds 1 or -1 where only one is right, divided by the number of images of its class and by that of classes.
    """
    right = [(table["label"] == table["predicted"]).to_numpy(np.float64) for table in (first, other)]
    images = first.groupby("label")["label"].transform("size").to_numpy(np.float64)
    gain = pd.Series((right[1] - right[0]) / images / first["label"].nunique())
    return np.asarray(gain.groupby(first["group_id"].to_numpy(str)).sum(), np.float64)


def sign_flip_test(values: Floats, seed: int, flips: int = FLIPS) -> float:
    """Return the two-sided p-value of the sum of independent differences: how often random signs make it as large.

    If neither run is better, a lesion's difference might as well have the other sign. This is Fisher's randomisation
    test (1935, The Design of Experiments, section 21) with random signs instead of all; one is added to both counts,
    so that p is never 0 (Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39).

    Args:
        values: the differences, (n,), such as `contributions`.
        seed: of the signs.
        flips: how many times signs are drawn.
    """
    values = values[values != 0]
    random, block = np.random.default_rng(seed), max(1, CELLS // max(1, len(values)))
    as_large = 0
    for start in range(0, flips, block):
        signs = 2.0 * random.integers(2, size=(min(block, flips - start), len(values))) - 1
        # the tolerance is for sums that differ in rounding only
        as_large += int((np.abs(signs @ values) >= np.abs(values.sum()) - 1e-12).sum())
    return (1 + as_large) / (1 + flips)


def holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number: the chance of any false alarm stays at the level (Holm 1979)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in corrected]


def mcnemar(only_first: int, only_other: int) -> float:
    """Return the p-value of McNemar's exact test: whether both are equally often the only one that is right.

    It takes images for independent, which images of one lesion are not; `sign_flip_test` does not.
    """
    from scipy.stats import binomtest  # takes half a second to import, and only a comparison needs it

    disagreements = only_first + only_other
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


@dataclass(frozen=True)
class RepeatedDifference:
    """A difference between two ways of training, each trained several times.

    Attributes:
        mean: of the differences.
        low, high: its 95 % interval; None where all differences are equal.
        p_value: of the mean being 0; None where all differences are equal and not 0.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None


def corrected_difference(differences: Floats, test_images: int, training_images: int) -> RepeatedDifference:
    """Return the mean of differences between trainings, its interval and p-value by the corrected resampled t-test.

    Nadeau and Bengio (2003, Machine Learning 52:239-281): trainings share most of their images, so their differences
    vary less than those of independent samples would; the variance of the mean is (1/n + test/training) s^2, and it is
    compared with Student's t of n - 1 degrees of freedom.

    Args:
        differences: (n,), one for each repetition, such as a seed: the second's metric minus the first's.
        test_images: the number of images that each difference was measured on.
        training_images: the number of images that each was trained on.

    Raises:
        ValueError: there are fewer than two differences, or no images.
    """
    from scipy.stats import t  # as above

    n = len(differences)
    if n < 2 or test_images < 1 or training_images < 1:
        raise ValueError(
            f"{n} differences, {test_images} test and {training_images} training images: 2, 1, 1 are needed"
        )
    mean = float(np.mean(differences))
    if np.ptp(differences) < 1e-12:  # no spread to judge by: two equal differences are no proof, however large
        return RepeatedDifference(mean, None, None, 1.0 if abs(mean) < 1e-12 else None)
    error = np.sqrt((1 / n + test_images / training_images) * np.var(differences, ddof=1))
    reach = float(error * t.ppf((1 + LEVEL) / 2, n - 1))
    return RepeatedDifference(mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, n - 1)))


def verdict(first: Run, other: Run, difference: Difference, p_corrected: float | None = None) -> str:
    """Return a plain sentence: identical, better, worse, or not distinguishable.

    Not distinguishable is a difference in balanced accuracy with a p-value, or a corrected one in a comparison of
    several, of 0.05 or more.
    """
    if difference.identical:
        return (
            f"{first.name} and {other.name} are identical: the same predictions for all {len(first.test)} test images."
        )
    row = difference.metrics.loc["balanced_accuracy"].to_numpy(np.float64)
    mean, low, high = row[2:].tolist()
    limits = None if np.isnan(low) else (low, high)
    p, words = (difference.p_value, "p") if p_corrected is None else (p_corrected, "Holm-corrected p")
    where = f"on {len(first.test)} images{of_lesions(first.test)}"
    return judge(first.name, other.name, mean, limits, p, words, where)


def judge(
    first: str, other: str, difference: float, limits: tuple[float, float] | None, p: float, p_words: str, where: str
) -> str:
    """Return the sentence that says whether `other` is better, by its difference in balanced accuracy and the p-value.

    Args:
        first, other: the names.
        difference: in balanced accuracy.
        limits: its interval, if there is one.
        p: decides, with ALPHA.
        p_words: what kind of p-value it is.
        where: what the difference was measured on.
    """
    interval_words = f"95 % interval {limits[0]:+.3f} to {limits[1]:+.3f}" if limits else "no interval"
    detail = f"balanced accuracy {difference:+.3f}, {interval_words}, {p_words} = {p:.2g}, {where}"
    if p >= ALPHA:
        return f"{other} is not distinguishable from {first} with this much data: {detail}."
    return f"{other} is {'better' if difference > 0 else 'worse'} than {first}: {detail}."
