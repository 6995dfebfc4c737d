"""Images as tables: with the rows of their features and their targets, and with their predictions."""

import numpy as np
import pandas as pd
import pytest

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.labelled_images import label_images, prediction_table
from dermoscopy.runtime.errors import DataError


def test_images_get_the_row_of_their_features_and_the_place_of_their_class(reader: FeatureReader) -> None:
    images = pd.DataFrame(
        {"image_id": ["image_7", "image_0", "image_12"], "label": ["nv", "bkl", "nv"], "part": ["test"] * 3},
        index=[4, 2, 9],
    )
    labelled, classes = label_images(images, reader)
    assert classes == ["bkl", "nv"]
    assert labelled["row"].tolist() == [7, 0, 12]
    assert labelled["target"].tolist() == [1, 0, 1]
    assert labelled[["image_id", "label", "part"]].equals(images)


def test_an_image_without_features_is_named(reader: FeatureReader) -> None:
    with pytest.raises(DataError, match="image_999 has no features"):
        label_images(pd.DataFrame({"image_id": ["image_0", "image_999"], "label": ["nv", "nv"]}), reader)


def test_a_row_of_predictions_has_the_class_of_the_highest_probability() -> None:
    images = pd.DataFrame(
        {"image_id": ["a", "b"], "label": ["mel", "nv"], "part": ["test", "validation"], "row": [5, 2]}, index=[7, 3]
    )
    table = prediction_table(images, ["bkl", "mel", "nv"], np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], np.float32))
    assert list(table.columns) == ["image_id", "part", "label", "predicted", "p_bkl", "p_mel", "p_nv"]
    assert table.iloc[:, :4].to_numpy().tolist() == [["a", "test", "mel", "nv"], ["b", "validation", "nv", "bkl"]]
    assert np.array_equal(table.iloc[:, 4:], np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], np.float32))
