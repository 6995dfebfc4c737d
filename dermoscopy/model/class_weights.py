"""How much an image of each class counts in training."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray


def class_weights(target: ArrayLike, classes: int, how: Literal["balanced", "none"]) -> NDArray[np.float64]:
    """Return the weight, (classes,), of an image of each class.

    Args:
        target: the number of the class of each training image.
        classes: how many classes there are; one without images has the weight 1.
        how: `train.class_weights`. balanced is inverse to the frequency, as scikit-learn defines it; none is 1.
    """
    weights = np.ones(classes)
    if how == "balanced":
        present, counts = np.unique(target, return_counts=True)
        weights[present] = counts.sum() / (len(present) * counts)
    return weights
