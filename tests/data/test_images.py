"""Image files: right pixels from good ones, one line about bad ones."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dermoscopy.data.images import read_image
from dermoscopy.runtime.errors import DataError
from tests.support.photographs import write_photographs

RED, GREEN, BLUE = (250, 20, 10), (30, 240, 60), (5, 15, 245)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two drawn photographs, 600 x 450."""
    return write_photographs(tmp_path_factory.mktemp("photographs"), 2)


@pytest.fixture
def photograph(photographs: list[Path]) -> Path:
    return photographs[0]


@pytest.fixture
def colours() -> NDArray[np.uint8]:
    """A square in three colours: red above, green at the bottom left, blue at the bottom right."""
    image = np.empty((40, 40, 3), np.uint8)
    image[:20], image[20:, :20], image[20:, 20:] = RED, GREEN, BLUE
    return image


def message(path: Path, sha256: str | None = None) -> str:
    """Return the error that reading this file ends with, which is one line that names the file."""
    with pytest.raises(DataError) as error:
        read_image(path, sha256)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


def test_pixels_are_red_green_blue(tmp_path: Path, colours: NDArray[np.uint8]) -> None:
    Image.fromarray(colours).save(tmp_path / "image.png")
    pixels = read_image(tmp_path / "image.png")
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, colours)


def test_real_photographs_have_exactly_the_pixels_that_opencv_finds(isic: Path) -> None:
    paths = sorted((isic / "images").iterdir())[:50]
    for path in paths:
        theirs = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        assert theirs is not None
        assert np.array_equal(read_image(path), theirs)
    assert len(paths) == 50


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg", ".JPG"])
def test_every_format_is_read(tmp_path: Path, colours: NDArray[np.uint8], suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    Image.fromarray(colours).save(path)
    pixels = read_image(path)
    assert pixels.shape == colours.shape
    for y, x in ((5, 5), (35, 5), (35, 35)):
        assert np.abs(pixels[y, x].astype(int) - colours[y, x]).max() < 25


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_stands_upright_as_its_exif_orientation_says(
    tmp_path: Path, colours: NDArray[np.uint8], orientation: int
) -> None:
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # quarter turns that the camera was held at
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.rot90(colours, turns)).save(tmp_path / "image.jpg", quality=95, subsampling=0, exif=exif)
    assert np.abs(read_image(tmp_path / "image.jpg").astype(int) - colours).mean() < 3


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_grey_transparent_and_palette_images_are_read_as_rgb(
    tmp_path: Path, colours: NDArray[np.uint8], mode: str
) -> None:
    image = Image.fromarray(colours)
    deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    converted = deep if mode == "I;16" else image.convert(mode)
    converted.save(tmp_path / "image.png")
    expected = image.convert("L").convert("RGB") if mode == "I;16" else converted.convert("RGB")
    pixels = read_image(tmp_path / "image.png")
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("progressive", [0, 1], ids=["baseline", "progressive"])
def test_a_truncated_jpeg_is_bad(tmp_path: Path, photograph: Path, progressive: int, share: float) -> None:
    _, content = cv2.imencode(
        ".jpg", cv2.cvtColor(read_image(photograph), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
    )
    path = tmp_path / "image.jpg"
    path.write_bytes(content.tobytes()[: int(share * len(content))])
    assert "the JPEG cannot be decoded: image file is truncated" in message(path)


def test_a_jpeg_of_a_few_bytes_is_bad(tmp_path: Path, photograph: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(photograph.read_bytes()[:100])
    message(path)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # as a command does, see configure_image_libraries
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp"])
def test_a_truncated_image_of_another_format_is_bad(tmp_path: Path, photograph: Path, suffix: str) -> None:
    _, content = cv2.imencode(suffix, read_image(photograph))
    path = tmp_path / f"image{suffix}"
    path.write_bytes(content.tobytes()[: int(0.9 * len(content))])
    message(path)


def test_a_jpeg_with_bytes_after_its_end_is_good(tmp_path: Path, photograph: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(photograph.read_bytes() + b"\0" * 100)
    assert np.array_equal(read_image(path), read_image(photograph))


def test_an_empty_file_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.touch()
    assert "the file is empty" in message(path)


def test_text_with_the_name_of_an_image_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_text("<html><body>403 Forbidden</body></html>")
    message(path)


def test_a_missing_file_is_bad(tmp_path: Path) -> None:
    assert "is missing: bring it back" in message(tmp_path / "image.jpg")


def test_a_folder_with_the_name_of_an_image_is_bad(tmp_path: Path) -> None:
    (tmp_path / "image.jpg").mkdir()
    assert "directory" in message(tmp_path / "image.jpg")


def test_a_file_with_the_content_of_the_manifest_is_good(photograph: Path) -> None:
    sha256 = hashlib.sha256(photograph.read_bytes()).hexdigest()
    assert np.array_equal(read_image(photograph, sha256), read_image(photograph))


def test_a_file_whose_content_has_changed_since_the_manifest_is_bad(photographs: list[Path]) -> None:
    sha256 = hashlib.sha256(photographs[1].read_bytes()).hexdigest()
    assert "has changed since" in message(photographs[0], sha256)
