"""How much an image of each class counts in training."""

import numpy as np
import pandas as pd


def class_weights(target: "pd.Series[int]") -> dict[int, float]:
    """Return a weight for each class, inverse to its frequency, as scikit-learn's "balanced" defines it."""
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(target)
    return dict(
        zip(present.tolist(), compute_class_weight("balanced", classes=present, y=target).tolist(), strict=True)
    )
