"""Image files to pixels."""

import hashlib
import warnings
from io import BytesIO
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dermoscopy.data.storage import Location, read_bytes
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import MANIFEST

# What a file may be by its content, whatever its suffix says.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
# The smallest backbone.image_size: less shows no lesion.
MIN_SIDE = 32
MAX_PIXELS = 100_000_000


class ImageFile(NamedTuple):
    """Which image, where its file is, and the SHA-256 that the file must have."""

    image_id: str
    path: str
    sha256: str


def configure_image_libraries() -> None:
    """Set OpenCV and Pillow up for a command; they are the whole process's, so no import does it.

    Each caller decodes in threads of its own, with which OpenCV's would only compete. What is wrong with an image is
    said once, by our own error.
    """
    cv2.setNumThreads(1)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(path: Location, sha256: str | None = None) -> NDArray[np.uint8]:
    """Return the pixels of an image file: (height, width, 3), RGB, upright as its EXIF orientation says.

    Args:
        path: of the file, as the manifest has it.
        sha256: hexadecimal; where given, the file must still have this content.

    Raises:
        DataError: the file is missing or cannot be decoded, or does not have this sha256.
        StorageError: its storage cannot be read.
    """
    content = read_bytes(path)
    return decode(content, path) if sha256 is None else decode_checked(content, path, sha256)


def decode_checked(content: bytes, path: Location, sha256: str) -> NDArray[np.uint8]:
    """Return the pixels, as `read_image` does, of what was read from an image file; a DataError if it has changed."""
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} has changed since {MANIFEST} was made: run dvc repro again")
    return decode(content, path)


def decode(content: bytes, path: Location) -> NDArray[np.uint8]:
    """Return the pixels, as `read_image` does, of the content of the image file `path`.

    Grey becomes RGB, CMYK is converted, 16 bits are scaled to 8, an alpha channel is dropped.

    Raises:
        DataError: the content is not an image of FORMATS, is truncated or damaged where that can be seen, has several
            frames or pages, a side below MIN_SIDE, or more than MAX_PIXELS.
    """
    if not content:
        raise DataError(f"{path}: the file is empty")
    image = _read_header(content, path)
    # Pillow notices a truncated JPEG, where OpenCV fills with grey what is missing, and OpenCV scales 16 bits; of a
    # JPEG both make the same pixels. OpenCV darkens what is transparent in a TIFF.
    by_pillow = image.format in ("JPEG", "MPO") or (image.format == "TIFF" and image.mode == "RGBA")
    try:
        if by_pillow:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except Exception as error:  # what Pillow and OpenCV raise depends on the fault: OSError, cv2.error, ValueError
        raise DataError(f"{path}: the {image.format} cannot be decoded: {getattr(error, 'err', error)}") from None
    if pixels is None:
        raise DataError(f"{path}: the {image.format} is damaged or truncated, or of a kind that cannot be decoded")
    return np.asarray(pixels, np.uint8)


def shrink(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return an image, (height, width, 3), whose longer side has `side` pixels at most, in its own proportions."""
    height, width = pixels.shape[:2]
    scale = min(1, side / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _read_header(content: bytes, path: Location) -> Image.Image:
    """Return the image, not decoded yet, if its header promises one picture of a usable size."""
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
        # an MPO is a JPEG to which a camera has added a second picture: the first is the photograph
        several = image.format != "MPO" and getattr(image, "is_animated", False)
        if image.format == "PNG":
            image.verify()  # the checksums, for libpng would complain on stderr
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image in one of the formats {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise _too_large(path) from None
    except Exception as error:  # Pillow's readers raise whatever they run into: SyntaxError, struct.error, KeyError
        raise DataError(f"{path}: not an image that can be decoded: {error}") from None
    if several:
        raise DataError(f"{path}: the {image.format} has several frames or pages, and which one is meant is unknown")
    if min(image.size) < MIN_SIDE:
        raise DataError(f"{path}: {image.width} x {image.height} pixels are too few: {MIN_SIDE} a side are needed")
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path)
    return image


def _too_large(path: Location) -> DataError:
    return DataError(f"{path}: the image has more than {MAX_PIXELS // 10**6} megapixels")
