"""Which images the gallery shows, and what its pictures look like."""

import base64
import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dermoscopy.data.images import shrink
from dermoscopy.page.gallery import SIDE, choose_examples, data_uri, overlay

ROWS = [
    ("a", "mel", "mel", 0.6),
    ("b", "mel", "mel", 0.9),
    ("c", "mel", "nv", 0.7),
    ("d", "mel", "nv", 0.8),
    ("e", "mel", "mel", 0.9),
    ("f", "nv", "nv", 0.55),
]


@pytest.fixture
def predictions() -> pd.DataFrame:
    table = pd.DataFrame(ROWS, columns=["image_id", "label", "predicted", "top"])
    for name in ("mel", "nv"):
        table[f"p_{name}"] = np.where(table["predicted"] == name, table["top"], 1 - table["top"])
    return table.drop(columns="top")


def test_the_most_confident_right_and_wrong_images_of_each_class_are_chosen(predictions: pd.DataFrame) -> None:
    chosen = choose_examples(predictions, 2)
    confident = chosen[chosen["kind"] != "uncertain"]
    assert list(confident["image_id"]) == ["b", "e", "d", "c", "f"]
    assert list(confident["probability"]) == [0.9, 0.9, 0.8, 0.7, 0.55]
    assert list(confident["kind"]) == ["right", "right", "wrong", "wrong", "right"]


def test_the_least_certain_are_those_whose_two_highest_probabilities_differ_least(predictions: pd.DataFrame) -> None:
    chosen = choose_examples(predictions, 2)
    assert list(chosen["image_id"])[-2:] == ["f", "a"]
    assert list(chosen["kind"])[-2:] == ["uncertain", "uncertain"]


def test_the_highest_probabilities_are_named_in_their_order_whatever_was_decided() -> None:
    row = {"image_id": "a", "label": "mel", "predicted": "df", "p_df": 0.1, "p_mel": 0.2, "p_nv": 0.3, "p_vasc": 0.4}
    chosen = choose_examples(pd.DataFrame([row]), 1)
    assert chosen["ranking"].iloc[0] == [("vasc", 0.4), ("nv", 0.3), ("mel", 0.2)]
    assert chosen["probability"].iloc[0] == 0.1


def test_no_image_is_chosen_where_none_is_wanted(predictions: pd.DataFrame) -> None:
    assert choose_examples(predictions, 0).empty


def test_the_order_of_the_table_does_not_matter(predictions: pd.DataFrame) -> None:
    shuffled = predictions.sample(frac=1, random_state=1)
    assert choose_examples(shuffled, 1).to_numpy().tolist() == choose_examples(predictions, 1).to_numpy().tolist()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((450, 600), (360, 480)), ((600, 450), (480, 360)), ((40, 20), (40, 20)), ((1, 9999), (1, 480))],
)
def test_a_picture_keeps_the_proportions_of_its_file(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shrink(np.zeros((*size, 3), np.uint8), SIDE).shape == (*expected, 3)


def test_the_overlay_is_yellow_where_the_map_is_largest_and_dark_blue_where_it_is_not_positive() -> None:
    grey = np.full((90, 120, 3), 128, np.uint8)
    activation_map = np.array([[-5.0, -5.0], [-5.0, 10.0]])
    picture = overlay(grey, activation_map).astype(int)
    assert picture.shape == (90, 120, 3)
    red, green, blue = picture[-1, -1]
    assert min(red, green) > blue + 60
    red, green, blue = picture[0, 0]
    assert blue > red
    assert green < 80


def test_a_map_without_a_positive_place_is_dark_everywhere() -> None:
    picture = overlay(np.full((SIDE, SIDE, 3), 128, np.uint8), np.array([[-1.0, -2.0]]))
    assert (picture == picture[0, 0]).all()


def test_a_picture_survives_its_way_into_the_page() -> None:
    ramp = np.linspace(0, 255, SIDE).astype(np.uint8)
    picture = np.stack([np.tile(ramp, (SIDE, 1)), np.zeros((SIDE, SIDE), np.uint8), np.tile(ramp, (SIDE, 1)).T], axis=2)
    head, content = data_uri(picture).split(",")
    assert head == "data:image/webp;base64"
    decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"), int)
    assert np.abs(decoded - picture).mean() < 8
