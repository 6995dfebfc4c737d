"""Which class is predicted: what stands between the probabilities and the answer."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def adjust(probabilities: ArrayLike, prior: ArrayLike, exponent: float) -> NDArray[np.float64]:
    """Return probabilities / prior**exponent, (n, classes), each row divided by its sum.

    The class of the largest one is predicted. With 0 it is the likeliest class, with 1 the one that became likelier
    than it was before the image was seen; in between accuracy is traded for balanced accuracy (Menon et al. 2021,
    arXiv:2007.07314, section 4.1).

    Args:
        probabilities: (n, classes).
        prior: (classes,), the share of each class among the training images; one with 0 is never predicted.
        exponent: below 0 frequent classes are preferred even more.
    """
    share = np.asarray(prior, np.float64)
    factor = np.zeros_like(share)
    factor[share > 0] = share[share > 0] ** -exponent
    adjusted = np.asarray(probabilities, np.float64) * factor
    return adjusted / adjusted.sum(axis=1, keepdims=True)


def choose_class(probabilities: ArrayLike, prior: ArrayLike, exponent: float) -> NDArray[np.intp]:
    """Return the number, (n,), of the predicted class; see `adjust`, whose arguments these are."""
    return adjust(probabilities, prior, exponent).argmax(axis=1)
