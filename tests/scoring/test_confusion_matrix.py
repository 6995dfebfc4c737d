"""The picture of the confusion matrix."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dermoscopy.scoring.confusion_matrix import (
    cell_colour,
    confusion_figure,
    contrast,
    draw_confusion_matrix,
    font_families,
    text_colour,
)
from dermoscopy.scoring.predictions import class_names
from tests.support.prediction_tables import eight_images, make_predictions


def test_the_picture_has_the_same_bytes_twice_and_other_bytes_for_other_numbers(tmp_path: Path) -> None:
    table = eight_images()
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, predictions in zip(paths, (table, table, table[1:]), strict=True):
        draw_confusion_matrix(predictions, "test images", path)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other
    image = Image.open(paths[0])
    assert image.format == "PNG"
    assert min(image.size) > 600
    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert paths[0].stat().st_size < 40_000


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21)
    assert contrast([1, 1, 1], [1, 1, 1]) == 1
    grey = np.array([0x76] * 3) / 255  # #767676, the lightest grey that may stand on white
    assert contrast(grey, [1, 1, 1]) == pytest.approx(4.54, abs=0.005)


def test_text_can_be_read_on_the_colour_of_every_share() -> None:
    for share in np.linspace(0, 1, 1001):
        colour = cell_colour(share)
        assert contrast([float(text_colour(colour) == "white")] * 3, colour) >= 4.5
    assert text_colour(cell_colour(0)) == "black"
    assert text_colour(cell_colour(1)) == "white"


def shares_of_every_kind() -> pd.DataFrame:
    """Return predictions of 101 images a class, of which 0 to 100 % are right."""
    names = [f"{right} %" for right in range(0, 101, 10)]
    labels = [name for name in names for _ in range(100)]
    predicted = [
        name if image < int(name.split()[0]) else names[place - 1]
        for place, name in enumerate(names)
        for image in range(100)
    ]
    table = make_predictions(labels, np.eye(len(names))[[names.index(name) for name in predicted]], names)
    assert list(table["predicted"]) == predicted
    return table


def test_in_the_picture_itself_letters_stand_out_from_every_cell(tmp_path: Path) -> None:
    table = shares_of_every_kind()
    draw_confusion_matrix(table, "test images", tmp_path / "picture.png")
    picture = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")) / 255
    figure = confusion_figure(table, class_names(table))
    figure.suptitle("as tall as that of the picture", fontsize=8)
    figure.set_dpi(300)
    figure.canvas.draw()
    axes = figure.axes[0]
    shares = axes.collections[0].get_array()
    assert shares is not None
    assert len(axes.texts) == shares.size == 121
    for text in axes.texts:
        left, bottom, right, top = (int(edge) for edge in text.get_window_extent().extents)
        letters = picture[len(picture) - top : len(picture) - bottom, left:right].reshape(-1, 3)
        colours, counts = np.unique(letters, axis=0, return_counts=True)
        cell = colours[counts.argmax()]
        column, row = (round(float(place)) for place in text.get_position())
        assert cell == pytest.approx(cell_colour(shares[row, column] / 100), abs=1 / 255)
        assert max(contrast(colour, cell) for colour in colours) >= 4.5


def test_the_axes_and_the_colours_say_what_they_are() -> None:
    table = eight_images()
    axes, scale = confusion_figure(table, class_names(table)).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "actual class")
    assert scale.get_ylabel() == "% of the actual class"


NAMES = [["0", "1"], ["色素性母斑", "mélanome"], ["a | b <i>", "x" * 50], ["$\\frac{", "melanoma (0.76 to 1.5 mm)"]]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
@pytest.mark.filterwarnings("error::UserWarning")
def test_names_of_any_kind_are_drawn_without_a_warning(tmp_path: Path, names: list[str]) -> None:
    table = make_predictions(names, np.eye(2), names)
    draw_confusion_matrix(table, "test images", tmp_path / "picture.png")
    width, height = Image.open(tmp_path / "picture.png").size
    assert max(width, height) < 1500


def test_what_matplotlib_cannot_draw_itself_is_left_to_another_font_or_to_a_question_mark() -> None:
    assert font_families("nævus é |") == (["DejaVu Sans"], set())
    families, missing = font_families("nv 色素\U0010fffd")
    assert families[0] == "DejaVu Sans"
    assert missing in ({"\U0010fffd"}, {*"色素\U0010fffd"})
    assert ("色" in missing) == (len(families) == 1)
