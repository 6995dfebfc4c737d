"""The whole classifier as one Keras model that takes images of any size: resizing, views, backbone and head.

Resizing and views are elementary operations of Keras, which exist since Keras 3.6, compile on each of its backends, and
convert to ONNX and TFLite. Its own ways of resizing and warping do not. Imports Keras: call `start_keras` first.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from dermoscopy.features.views import Warp, source_of_target
from dermoscopy.model.head import Head


def build_exported(backbone: keras.Model, head: Head, warps: Sequence[Warp]) -> keras.Model:
    """Return a keras.Model: RGB images (batch, height, width, 3), 0 to 255, to class probabilities (batch, classes).

    They are the mean over the views. Where the head uses clinical numbers, they are a second input, `clinical`, (batch,
    numbers).

    Args:
        backbone: as `build_backbone` builds it.
        head: that was trained on its features.
        warps: of the views.
    """
    image = keras.Input((None, None, 3), name="image")
    square = resize(image, backbone.input_shape[1])
    views = [square if warp == Warp() else warp_square(square, warp) for warp in warps]
    # a list, as the backbone was built with one
    features = backbone([ops.concatenate(views, axis=0)], training=False)
    inputs = image
    if numbers := len(head.mean) - features.shape[-1]:
        clinical = keras.Input((numbers,), name="clinical")
        features = ops.concatenate([features, ops.tile(clinical, (len(views), 1))], axis=1)
        inputs = {"image": image, "clinical": clinical}  # Keras 3.6 finds inputs by name only in a model of a dict
    last = keras.layers.Dense(len(head.bias), activation="softmax", name="probabilities")
    probabilities = last(features)
    weights = head.kernel.astype(np.float64) / head.deviation[:, None]
    last.set_weights([weights, head.bias - head.mean @ weights])
    if len(views) > 1:
        probabilities = ops.mean(ops.reshape(probabilities, (len(views), -1, len(head.bias))), axis=0)
    return keras.Model(inputs, probabilities, name="classifier")


def resize(image: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Return images, (batch, side, side, 3), of any other size, as `render_views` makes view 0: by Pillow's filter.

    As Pillow does it: across, then down, each rounded to whole levels.
    """
    planes = ops.transpose(image, (0, 3, 1, 2))
    for _ in ("across", "down"):
        planes = ops.transpose(_round(ops.matmul(planes, _triangles(planes, side))), (0, 1, 3, 2))
    return ops.transpose(planes, (0, 2, 3, 1))


def _triangles(planes: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Return how much each pixel of the last axis counts in each of `side` new ones, (pixels, side).

    A triangle about the centre of the new pixel, which falls to 0 at the centres of its neighbours; where the image is
    enlarged, as wide as between two old pixels.
    """
    # the length of the axis is known when there is an image: until then it is counted, along ones
    ones = ops.ones_like(ops.mean(planes, axis=(0, 1, 2)))
    pixels = ops.sum(ones)
    # twice the place of each centre, old and new, times both lengths: whole numbers, which float32 holds exactly
    old = ops.expand_dims(2.0 * ops.cumsum(ones) - 1.0, 1) * float(side)
    new = pixels * np.arange(1, 2 * side, 2, dtype=np.float32)
    heights = ops.relu(1.0 - ops.abs(old - new) / (2.0 * ops.maximum(pixels, float(side))))
    # Pillow's fractions have 22 bits, which decides where a level is halfway between two
    return ops.floor(heights / ops.sum(heights, axis=0) * 2.0**22 + 0.5) / 2.0**22


def warp_square(square: keras.KerasTensor, warp: Warp) -> keras.KerasTensor:
    """Return a view of square images, (batch, side, side, 3), as `render_views` warps them."""
    side = square.shape[1]
    ones = ops.ones_like(ops.mean(square, axis=(0, 3)))
    row, column = ops.cumsum(ones, axis=0) - 1.0, ops.cumsum(ones, axis=1) - 1.0
    x, y = (a * column + b * row + c for a, b, c in source_of_target(warp, side).tolist())
    left, top = ops.floor(x), ops.floor(y)
    right_share, lower_share = x - left, y - top
    corners = [
        (left, top, (1.0 - right_share) * (1.0 - lower_share)),
        (left + 1.0, top, right_share * (1.0 - lower_share)),
        (left, top + 1.0, (1.0 - right_share) * lower_share),
        (left + 1.0, top + 1.0, right_share * lower_share),
    ]
    pixels = ops.reshape(square, (-1, side * side, 3))
    seen = []
    for column, row, share in corners:
        place = ops.reshape(_reflect(row, side) * float(side) + _reflect(column, side), (-1,))
        seen.append(ops.take(pixels, ops.cast(place, "int32"), axis=1) * ops.reshape(share, (-1, 1)))
    return _round(ops.reshape(sum(seen[1:], seen[0]), (-1, side, side, 3)))


def _reflect(place: keras.KerasTensor, side: int) -> keras.KerasTensor:
    """Return which row or column, 0 to side - 1, is seen at a place beyond the edge."""
    place = ops.mod(place, 2.0 * side)
    return ops.minimum(place, 2.0 * side - 1.0 - place)


def _round(levels: keras.KerasTensor) -> keras.KerasTensor:
    return ops.floor(levels + 0.5)
