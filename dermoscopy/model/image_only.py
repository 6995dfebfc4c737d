"""What the head would say without the clinical data: a second one, trained on the features alone."""

import numpy as np
import pandas as pd

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.labelled_images import prediction_table
from dermoscopy.model.training import predict_views, train_head
from dermoscopy.runtime.params import Train


def image_only_predictions(
    features: FeatureReader, images: pd.DataFrame, classes: list[str], train: Train
) -> pd.DataFrame:
    """Return the predictions of the head that `train.clinical=null` trains, byte for byte; none where it is null.

    Args:
        features: of the images, without clinical numbers.
        images: `image_id, part, label, row, target` of all images; all parts but `train` are predicted.
        classes: their names, in the order of the targets.
        train: the params.

    Returns:
        `image_id, part, label, predicted, p_<class>..., tta`; `tta` is "false" for the image alone, "true" for the mean
        over its views, so an image has two rows.
    """
    held_out, probabilities = images[:0], np.empty((0, 1, len(classes)), np.float32)
    if train.clinical:
        part = dict(iter(images.groupby("part")))
        head, _ = train_head(features, part["train"], part["validation"], len(classes), train)
        held_out = images[images["part"] != "train"]
        probabilities = predict_views(head, features, held_out["row"].to_numpy())
    scored = {"false": probabilities[:, 0], "true": probabilities.mean(axis=1)}
    return pd.concat([prediction_table(held_out, classes, values).assign(tta=tta) for tta, values in scored.items()])
