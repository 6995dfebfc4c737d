"""Intervals of shares of images, such as recall, and of their mean, balanced accuracy: formulas that hold for few.

A bootstrap of few lesions is too narrow, and has no width where all of them are right. These formulas are for
independent observations, which images of one lesion are not, so they take the number of lesions for that of images;
where the data know patients, a patient counts as one lesion (`group_id`).
That is enough unless the images of a lesion are always right or wrong together: see benchmarks/coverage.py.
"""

from statistics import NormalDist

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaincinv

from dermoscopy.scoring.bootstrap import LEVEL, Floats
from dermoscopy.scoring.predictions import class_names

Z = NormalDist().inv_cdf((1 + LEVEL) / 2)


def lesions_of_classes(predictions: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of lesions, (classes,), of each class, and that of all other classes."""
    lesion, label, classes = predictions["group_id"], predictions["label"], class_names(predictions)
    of_class = [lesion[label == name].nunique() for name in classes]
    of_others = [lesion[label != name].nunique() for name in classes]
    return np.array(of_class, np.int64), np.array(of_others, np.int64)


def share_interval(share: float, observations: float) -> tuple[float, float]:
    """Return the 95 % interval, low and high, of a share, 0 to 1, of so many observations.

    Wilson (1927, Journal of the American Statistical Association 22:209-212). SciPy has it for whole numbers of
    successes, which a share of images is not when lesions are counted.
    """
    squared = Z**2 / observations
    middle = (share + squared / 2) / (1 + squared)
    reach = Z * np.sqrt(share * (1 - share) / observations + squared / observations / 4) / (1 + squared)
    # at a share of 0 or 1 rounding could move the limit past it
    return float(min(share, max(0, middle - reach))), float(max(share, min(1, middle + reach)))


def mean_interval(shares: Floats, observations: NDArray[np.int64]) -> tuple[float, float]:
    """Return the 95 % interval, low and high, of the mean of independent shares.

    From the limits of each share by Clopper and Pearson (1934, Biometrika 26:404-413), put together as Zou, Huang and
    Zhang do (2009, Computational Statistics and Data Analysis 53:1080-1085): the distances from the share to its limit
    add up in squares. With Wilson's limits, or with the posterior of Jeffreys' prior, the interval of balanced accuracy
    misses too often where some classes have a lesion or two; see benchmarks/coverage.py.

    Args:
        shares: (k,), each 0 to 1, or NaN, which is left out; one at least is not.
        observations: (k,), of how many each is.
    """
    defined = ~np.isnan(shares)
    share, number = shares[defined], observations[defined]
    # betaincinv gives NaN at the ends, where the limit is 0 or 1
    right, wrong, tail = share * number, (1 - share) * number, (1 - LEVEL) / 2
    low = np.where(right > 0, betaincinv(np.where(right > 0, right, 1), wrong + 1, tail), 0)
    high = np.where(wrong > 0, betaincinv(right + 1, np.where(wrong > 0, wrong, 1), 1 - tail), 1)
    mean, count = share.mean(), len(share)
    below, above = np.sqrt(((share - low) ** 2).sum()) / count, np.sqrt(((high - share) ** 2).sum()) / count
    return float(max(0, mean - below)), float(min(1, mean + above))
