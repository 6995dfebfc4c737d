"""Class weights: a formula, and that all classes weigh the same."""

import numpy as np
import pandas as pd
import pytest

from dermoscopy.model.class_weights import class_weights


def test_balanced_weights_are_images_by_classes_times_images_of_the_class() -> None:
    weights = class_weights(pd.Series([0, 0, 0, 0, 0, 0, 1, 1, 3]), 5, "balanced")
    assert list(weights) == pytest.approx([9 / (3 * 6), 9 / (3 * 2), 1, 9 / (3 * 1), 1])


def test_with_balanced_weights_all_classes_weigh_the_same() -> None:
    target = pd.Series(np.random.default_rng(0).choice(7, 500, p=[0.67, 0.11, 0.11, 0.05, 0.03, 0.02, 0.01]))
    weight = pd.Series(class_weights(target, 7, "balanced")[target])
    totals = weight.groupby(target).sum()
    assert np.allclose(totals, len(target) / target.nunique())


def test_without_class_weights_each_image_counts_as_one() -> None:
    assert list(class_weights(pd.Series([0, 0, 1]), 2, "none")) == [1, 1]
