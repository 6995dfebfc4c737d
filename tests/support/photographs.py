"""Photographs for tests that need no real diagnoses: drawn lesions, encoded as a camera does."""

from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermoscopy.data.sources.lesions import HEIGHT, WIDTH, draw_lesion

SIZE = WIDTH, HEIGHT
DIAGNOSES = ("nv", "mel", "bcc", "bkl")


@cache
def photograph(number: int) -> NDArray[np.uint8]:
    """Return the pixels of drawn lesion `number`, counted from 1: (HEIGHT, WIDTH, 3), RGB."""
    (pixels,) = draw_lesion(DIAGNOSES[number % len(DIAGNOSES)], 0, number, 1)
    return np.asarray(pixels, np.uint8)


@cache
def jpeg(number: int) -> bytes:
    """Return the content of a JPEG of `photograph(number)`, of about 60 kB."""
    stream = BytesIO()
    Image.fromarray(photograph(number)).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Write that many different photographs into a folder, and return their paths in order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"ISIC_{number:07d}.jpg" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        path.write_bytes(jpeg(number))
    return paths
