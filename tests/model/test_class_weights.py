"""Class weights: a formula, and that all classes weigh the same."""

import numpy as np
import pandas as pd
import pytest

from dermoscopy.model.class_weights import class_weights


def test_class_weights_are_images_by_classes_times_images_of_the_class() -> None:
    weights = class_weights(pd.Series([0, 0, 0, 0, 0, 0, 1, 1, 3]))
    assert weights == pytest.approx({0: 9 / (3 * 6), 1: 9 / (3 * 2), 3: 9 / (3 * 1)})


def test_with_class_weights_all_classes_weigh_the_same() -> None:
    target = pd.Series(np.random.default_rng(0).choice(7, 500, p=[0.67, 0.11, 0.11, 0.05, 0.03, 0.02, 0.01]))
    totals = target.map(class_weights(target)).groupby(target).sum()
    assert np.allclose(totals, len(target) / target.nunique())
