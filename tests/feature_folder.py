"""data/features for tests, written from an array."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.made_up import write_features
from stages.common.features import FeatureReader, FeaturesInfo
from tests.params_file import PARAMS


def write_feature_folder(folder: Path, features: NDArray[np.float32]) -> FeatureReader:
    """Write features, (images, views, dim), of images named image_0 and so on, and return a reader of them."""
    images, views, dim = features.shape
    index = pd.DataFrame(
        {
            "image_id": [f"image_{number}" for number in range(images)],
            "sha256": [f"{number:064d}" for number in range(images)],
        }
    )
    info = FeaturesInfo(
        backbone="0" * 64,
        engine="none",
        augmentation=PARAMS.augmentation,
        dim=dim,
        images=images,
        keys=[f"{view:064d}" for view in range(views)],
        checksum="",
    )
    write_features(folder, info, index, lambda view: [features[:, view]])
    return FeatureReader(folder)
