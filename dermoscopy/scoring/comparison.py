"""Whether one run is better than another on the same test images: paired differences, intervals and tests."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from dermoscopy.scoring.bootstrap import bootstrap, interval, p_value
from dermoscopy.scoring.definitions import classification_metrics
from dermoscopy.scoring.metrics import HEADLINES, OF_A_CLASS, enough_lesions
from dermoscopy.scoring.predictions import class_names
from dermoscopy.scoring.runs import Run

SEED = 1  # one for all comparisons: a comparison of two runs does not depend on the params of a third


@dataclass(frozen=True)
class Difference:
    """How a run differs from the first one, on the same images.

    Attributes:
        metrics: a row for each metric: first, other, difference, and low and high of its 95 % interval.
        p_value: of the difference in balanced accuracy, from the bootstrap.
        only_first, only_other: how many images only this run has right.
        mcnemar: p-value of McNemar's exact test on these two numbers.
    """

    metrics: pd.DataFrame
    p_value: float
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
    draws = bootstrap(both, first.test["lesion_id"], SEED)
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
    balanced = draws["balanced_accuracy"]
    return Difference(
        metrics=table,
        p_value=p_value(balanced[:, 1] - balanced[:, 0]) if enough["balanced_accuracy"] else 1.0,
        only_first=only_first,
        only_other=only_other,
        mcnemar=mcnemar(only_first, only_other),
    )


def interval_of_difference(draws: NDArray[np.float64], enough: bool | NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of second minus first of draws, (n, 2); NaN where there is none."""
    return (interval(draws[:, 1] - draws[:, 0]) if enough else None) or (np.nan, np.nan)


def mcnemar(only_first: int, only_other: int) -> float:
    """Return the p-value of McNemar's exact test: whether both are equally often the only one that is right.

    It takes images for independent, which images of one lesion are not; the bootstrap does not.
    """
    disagreements = only_first + only_other
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def verdict(first: Run, other: Run, difference: Difference, p_corrected: float | None = None) -> str:
    """Return a plain sentence: better, worse, or not distinguishable.

    Not distinguishable is what the interval of the difference in balanced accuracy leaves open, that is, where it
    includes 0 or, in a comparison of several, where the corrected p-value is 0.05 or more.
    """
    row = difference.metrics.loc["balanced_accuracy"]
    detail = (
        f"balanced accuracy {row['difference']:+.3f}, 95 % interval {row['low']:+.3f} to {row['high']:+.3f}, on "
        f"{len(first.test)} images of {first.test['lesion_id'].nunique()} lesions"
    )
    told_apart = not (np.isnan(row["low"]) or row["low"] <= 0 <= row["high"])
    if not told_apart or (p_corrected is not None and p_corrected >= 0.05):
        return f"{other.name} is not distinguishable from {first.name} with this much data: {detail}."
    return f"{other.name} is {'better' if row['difference'] > 0 else 'worse'} than {first.name}: {detail}."
