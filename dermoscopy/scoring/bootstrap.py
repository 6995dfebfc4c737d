"""Bootstrap intervals: lesions are drawn again and again, and with a lesion all its images.

Images of one lesion resemble each other, so drawing single images would make every interval too narrow. The intervals
are percentile intervals (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). They reflect the
choice of test images, not the randomness of training.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DRAWS = 2000
LEVEL = 0.95
# Draws by images in memory at a time: a megabyte, for the processor's caches.
CELLS = 150_000

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], dict[str, Floats]]


def bootstrap(statistic: Statistic, lesions: "pd.Series[str]", seed: int, draws: int = DRAWS) -> dict[str, Floats]:
    """Return the values of `statistic` for many samples of the lesions, drawn with replacement.

    Args:
        statistic: takes weights, (n, images): how often each image is in each of n samples; returns arrays whose first
            axis has n entries, NaN where a sample does not define a value.
        lesions: the lesion of each image; the samples do not depend on the order of the images.
        seed: of the samples.
        draws: how many samples.

    Returns:
        The arrays of `statistic`, of all draws.
    """
    names, lesion = np.unique(lesions.to_numpy(str), return_inverse=True)
    random = np.random.default_rng(seed)
    block = max(1, CELLS // len(lesions))
    blocks = []
    for start in range(0, draws, block):
        count = min(block, draws - start)
        drawn = random.integers(len(names), size=(count, len(names))) + len(names) * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * len(names)).reshape(count, len(names))
        blocks.append(statistic(np.take(times.astype(np.float64), lesion, axis=1)))
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def interval(draws: Floats) -> tuple[float, float] | None:
    """Return the 95 % percentile interval, low and high, of the draws that are not NaN; None if there are none."""
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def p_value(draws: Floats) -> float:
    """Return the two-sided p-value of a difference, from its draws that are not NaN: how far 0 is out in their tails.

    It is the significance level at which the percentile interval begins to include 0. One is added to both counts, so
    that it is never 0 (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 4.2).
    """
    defined = draws[~np.isnan(draws)]
    tail = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(defined) + 1)))


def holm(p_values: list[float]) -> list[float]:
    """Return p-values corrected for their number: the chance of any false alarm stays at the level (Holm 1979)."""
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)))
    return [float(value) for value in corrected]
