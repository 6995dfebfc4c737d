"""data/features for tests, written from an array as the contract of stages/common/features.py says."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.features import FeatureReader, FeaturesInfo, sealed, view_file
from tests.params_file import PARAMS


def write_feature_folder(folder: Path, features: NDArray[np.float32]) -> FeatureReader:
    """Write features, (images, views, dim), of images named image_0 and so on, and return a reader of them."""
    images, views, dim = features.shape
    folder.mkdir(parents=True)
    for view in range(views):
        np.save(view_file(folder, view), np.ascontiguousarray(features[:, view]))
    index = pd.DataFrame(
        {
            "image_id": [f"image_{number}" for number in range(images)],
            "sha256": [f"{number:064d}" for number in range(images)],
        }
    )
    index.to_csv(folder / "index.csv", index=False)
    info = FeaturesInfo(
        backbone="0" * 64,
        engine="none",
        augmentation=PARAMS.augmentation,
        dim=dim,
        images=images,
        keys=[f"{view:064d}" for view in range(views)],
        checksum="",
    )
    (folder / "features.json").write_text(sealed(info, folder).model_dump_json(), encoding="utf-8")
    return FeatureReader(folder)
