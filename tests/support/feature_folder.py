"""data/features for tests, written from an array."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.made_up import made_up_info, write_made_up_features
from dermoscopy.features.store import FeatureReader
from tests.support.params_file import PARAMS


def write_feature_folder(folder: Path, features: NDArray[np.float32], backbone: str = "none") -> FeatureReader:
    """Write features, (images, views, dim), of images named image_0 and so on, and return a reader of them.

    Args:
        folder: to write.
        features: what the backbone made.
        backbone: its fingerprint.
    """
    images, views, dim = features.shape
    index = pd.DataFrame(
        {
            "image_id": [f"image_{number}" for number in range(images)],
            "sha256": [f"{number:064d}" for number in range(images)],
        }
    )
    info = made_up_info(PARAMS.augmentation, dim, images, views).model_copy(update={"backbone": backbone})
    write_made_up_features(folder, info, index, lambda view: [features[:, view]])
    return FeatureReader(folder)
