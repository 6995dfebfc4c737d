"""Bootstrap intervals: lesions are drawn again and again, and with a lesion all its images.

Images of one lesion resemble each other, so drawing single images would make every interval too narrow. Where the data
know patients, all images of a patient are drawn together, as one lesion: see `group_ids`. The intervals
are percentile intervals (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13). They reflect the
choice of test images, not the randomness of training. Shares of images, and balanced accuracy, have intervals by
formula instead: see intervals.py.
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
Advance = Callable[[int], object]


def bootstrap(
    statistic: Statistic,
    lesions: "pd.Series[str]",
    seed: int,
    draws: int = DRAWS,
    advance: Advance | None = None,
) -> dict[str, Floats]:
    """Return the values of `statistic` for many samples of the lesions, drawn with replacement.

    Args:
        statistic: takes weights, (n, images): how often each image is in each of n samples; returns arrays whose first
            axis has n entries, NaN where a sample does not define a value.
        lesions: the lesion of each image; the samples do not depend on the order of the images.
        seed: of the samples.
        draws: how many samples.
        advance: is told of each block of samples how many they were.

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
        if advance:
            advance(count)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def interval(draws: Floats) -> tuple[float, float] | None:
    """Return the 95 % percentile interval, low and high, of the draws that are not NaN.

    None if there are none, or if it has no width: draws that agree do not show how other images would vary.
    """
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return (float(low), float(high)) if low < high else None
