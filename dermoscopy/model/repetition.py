"""Cross-validation of the head on stored features: one fold, trained and predicted in a process of its own."""

import os

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.split import assign_parts
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.labelled_images import label_images, prediction_table
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Params
from dermoscopy.runtime.paths import FEATURES


def require_current_features(manifest: pd.DataFrame, params: Params) -> None:
    """Raise a DataError unless the features are of these images, backbone and view params; DVC guards stages only."""
    features = FeatureReader()
    features.rows(manifest["image_id"])
    backbone = read_backbone_info()
    hashes = pd.Series(features.sha256, features.image_ids).reindex(manifest["image_id"])
    if (
        (backbone.name, backbone.image_size) != (params.backbone.name, params.backbone.image_size)
        or features.info.backbone != backbone.fingerprint
        or features.info.augmentation != params.augmentation
        or not np.array_equal(hashes, manifest["sha256"])
    ):
        raise DataError(f"{FEATURES} is of other images, another backbone or other views: run dvc repro features")


def predict_fold(params: Params, manifest: pd.DataFrame, fold: NDArray[np.intp], number: int) -> pd.DataFrame:
    """Train the head without one fold and return the predictions for it, as `evaluate.tta` says, with `lesion_id`.

    `split.validation` of the other folds, drawn as the split stage draws, decides when training stops. It takes one
    thread, for a head is too small for two.
    """
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    features = FeatureReader()
    images, classes = label_images(manifest[["image_id", "label", "lesion_id"]], features)
    known = manifest[fold != number]
    part = assign_parts(known, params.split.model_copy(update={"test": 0.0}))
    training, validation = (images.loc[known.index[part == name]] for name in ("train", "validation"))

    start_keras(params.train.seed)
    from dermoscopy.model.training import predict_views, train_head

    head, _ = train_head(features, training, validation, len(classes), params.train)
    held_out = images[fold == number].assign(part=f"fold {number + 1}").reset_index(drop=True)
    probabilities = predict_views(head, features, held_out["row"].to_numpy())
    scored = probabilities.mean(axis=1) if params.evaluate.tta else probabilities[:, 0]
    return prediction_table(held_out, classes, scored).assign(lesion_id=held_out["lesion_id"])
