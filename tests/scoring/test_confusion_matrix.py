"""The picture of the confusion matrix."""

from pathlib import Path

from PIL import Image

from dermoscopy.scoring.confusion_matrix import draw_confusion_matrix
from tests.support.prediction_tables import eight_images


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
