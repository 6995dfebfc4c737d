"""Keras, started before the modules of this folder import it, and features to train on."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features.store import FeatureReader
from dermoscopy.runtime.keras_start import start_keras
from tests.support.feature_folder import write_feature_folder

start_keras(seed=0)

IMAGES, VIEWS, DIM, CLASSES = 308, 3, 6, 3  # more images than are in memory at a time, all views of each


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Features, (images, views, dim), of which each names its image and view: their numbers come first."""
    values = np.random.default_rng(0).normal(3, 0.5, (IMAGES, VIEWS, DIM)).astype(np.float32)
    values[..., 0] = np.arange(IMAGES)[:, None]
    values[..., 1] = np.arange(VIEWS)
    values[..., 2] = 0.1  # a dead feature
    return values


@pytest.fixture(scope="module")
def reader(features: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> FeatureReader:
    return write_feature_folder(tmp_path_factory.mktemp("train") / "features", features)


@pytest.fixture
def training() -> pd.DataFrame:
    """All images but the first 30, in an order of their own; the target follows from the row."""
    rows = np.random.default_rng(1).permutation(np.arange(30, IMAGES))
    return pd.DataFrame({"row": rows, "target": (rows % CLASSES).astype(np.int8)})
