"""Views of an image: the image itself (view 0) and augmented versions of it, at the backbone's input size."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermoscopy.runtime.params import Augmentation


@dataclass(frozen=True)
class Warp:
    """What a view does to an image: flips, then a turn by `angle` (radians), then zooming out by the factor `zoom`."""

    flip_horizontally: bool = False
    flip_vertically: bool = False
    angle: float = 0.0
    zoom: float = 1.0


def draw_warp(augmentation: Augmentation, image_id: str, view: int) -> Warp:
    """Return the warp of a view; it depends on augmentation.seed, image_id and view alone.

    View 0 is the image itself. The ranges are those of Keras' layers: RandomRotation(r) turns by up to r full turns
    either way, RandomZoom(z) scales both axes alike by 1 - z to 1 + z, RandomFlip flips each axis every other time.
    """
    if view == 0:
        return Warp()
    identity = int.from_bytes(hashlib.sha256(image_id.encode()).digest()[:16])
    uniform = np.random.default_rng([augmentation.seed, view, identity]).random(4)
    return Warp(
        flip_horizontally=bool(augmentation.horizontal_flip and uniform[0] < 0.5),
        flip_vertically=bool(augmentation.vertical_flip and uniform[1] < 0.5),
        angle=float(2 * np.pi * augmentation.rotation * (2 * uniform[2] - 1)),
        zoom=float(1 + augmentation.zoom * (2 * uniform[3] - 1)),
    )


def render_views(pixels: NDArray[np.uint8], warps: list[Warp], size: int) -> NDArray[np.uint8]:
    """Return the views of an image, (len(warps), size, size, 3), from its pixels, (height, width, 3).

    The image is squeezed to a square once, by Pillow's bilinear filter, which averages over all pixels that a smaller
    one stands for, as `keras.ops.image.resize` does with antialias=True. What a view sees beyond the edge is its
    reflection, as in Keras; flip, turn and zoom are one bilinear resampling.
    """
    square = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    views = np.empty((len(warps), size, size, 3), np.uint8)
    for view, warp in zip(views, warps, strict=True):
        cv2.warpAffine(
            square,
            source_of_target(warp, size),
            (size, size),
            dst=view,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
    return views


def source_of_target(warp: Warp, size: int) -> NDArray[np.float64]:
    """Return the (2, 3) matrix that takes a pixel (x, y) of a view, size x size, to its place in the squeezed image.

    Keras' order, read backwards: undo the zoom, the turn and the flips about the centre of the square. Pixel centres
    are at whole numbers, so the square begins at -0.5.
    """
    cosine, sine = warp.zoom * np.cos(warp.angle), warp.zoom * np.sin(warp.angle)
    flip = np.diag([-1.0 if warp.flip_horizontally else 1.0, -1.0 if warp.flip_vertically else 1.0])
    linear = flip @ np.array([[cosine, -sine], [sine, cosine]])
    centre = np.full(2, (size - 1) / 2)
    return np.column_stack([linear, centre - linear @ centre])
