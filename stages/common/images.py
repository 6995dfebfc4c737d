"""Image files to pixels."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.common.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

# Each caller decodes in threads of its own; OpenCV's would only compete with them.
cv2.setNumThreads(1)


def read_image(path: Path, sha256: str | None = None) -> NDArray[np.uint8]:
    """Return the pixels of an image file: (height, width, 3), RGB, upright as its EXIF orientation says.

    Args:
        path: the file.
        sha256: hexadecimal; where given, the file must still have this content.

    Raises:
        DataError: the file cannot be read or decoded, or is another than the one that had this sha256.
    """
    content = read_bytes(path)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path} has changed since data/manifest.csv was made: run dvc repro --force download")
    return decode(content, path)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file; a DataError says which file cannot be read and why."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def decode(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Return the pixels, as `read_image` does, of the content of the image file `path`.

    Raises:
        DataError: the content is no image that OpenCV reads, or a JPEG that ends too early.
    """
    if not content:
        raise DataError(f"{path}: the file is empty")
    # Some versions of OpenCV fill the missing part of a JPEG with grey and say nothing. A whole one ends its last scan
    # (FFDA) with FFD9, and neither code can occur inside compressed data.
    if content.startswith(b"\xff\xd8") and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
        raise DataError(f"{path}: the JPEG is truncated")
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise DataError(f"{path}: {error.err or error}") from None
    if pixels is None:
        raise DataError(f"{path}: not an image that can be decoded")
    return np.asarray(pixels, np.uint8)
