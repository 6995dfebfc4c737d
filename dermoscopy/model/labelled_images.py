"""The images that a head is trained on and predicts, as tables."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.features.store import FeatureReader


def label_images(images: pd.DataFrame, features: FeatureReader) -> tuple[pd.DataFrame, list[str]]:
    """Return a table of images (`image_id, label, ...`) with `row`, of the features, and `target`; and the classes.

    `target` is the place of the label among the classes, which are sorted.
    """
    classes = sorted(images["label"].unique())
    targets = pd.Categorical(images["label"], categories=classes).codes
    return images.assign(row=features.rows(images["image_id"]), target=targets), classes


def class_shares(labels: "pd.Series[str]", classes: list[str]) -> list[float]:
    """Return the share of each class among the labels: the prior, where they are those of the training images."""
    shares = labels.value_counts(normalize=True).reindex(classes, fill_value=0.0)
    return [float(share) for share in shares]


def prediction_table(images: pd.DataFrame, classes: list[str], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Return the prediction table of images: `image_id, part, label, predicted, p_<class>...`."""
    table = images[["image_id", "part", "label"]].reset_index(drop=True)
    table["predicted"] = np.array(classes)[probabilities.argmax(axis=1)]
    return table.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes]))
