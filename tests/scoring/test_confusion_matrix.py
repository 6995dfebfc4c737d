"""The picture of the confusion matrix."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermoscopy.scoring.confusion_matrix import draw_confusion_matrix, font_families
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
    assert min(image.size) > 400


NAMES = [["0", "1"], ["色素性母斑", "mélanome"], ["a | b <i>", "x" * 50], ["$\\frac{", "melanoma (0.76 to 1.5 mm)"]]


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names[0])
@pytest.mark.filterwarnings("error::UserWarning")
def test_names_of_any_kind_are_drawn_without_a_warning(tmp_path: Path, names: list[str]) -> None:
    table = make_predictions(names, np.eye(2), names)
    draw_confusion_matrix(table, "test images", tmp_path / "picture.png")
    width, height = Image.open(tmp_path / "picture.png").size
    assert max(width, height) < 1000


def test_what_matplotlib_cannot_draw_itself_is_left_to_another_font_or_to_a_question_mark() -> None:
    assert font_families("nævus é |") == (["DejaVu Sans"], set())
    families, missing = font_families("nv 色素\U0010fffd")
    assert families[0] == "DejaVu Sans"
    assert missing in ({"\U0010fffd"}, {*"色素\U0010fffd"})
    assert ("色" in missing) == (len(families) == 1)
