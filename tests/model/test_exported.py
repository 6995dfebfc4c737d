"""The exported model: it resizes and warps as predict does, and its last layer is the head."""

from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.features.networks import load_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.exported import build_exported, resize, warp_square
from dermoscopy.model.head import Head
from tests.support.photographs import photograph

SIDE = 64


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def assert_same_levels(found: NDArray[np.float32], expected: NDArray[np.uint8]) -> None:
    """Fail where a pixel differs by more than one level, or more than one in a hundred by as much."""
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


@pytest.mark.parametrize(
    "size", [(450, 600), (SIDE, SIDE), (40, 32), (33, 500), (500, 33), (SIDE, 999), (1, 1), (2000, 1500)]
)
def test_images_of_any_size_are_squeezed_as_predict_does_it(size: tuple[int, int]) -> None:
    images = noise(2, *size, 3)
    expected = np.concatenate([render_views(image, [Warp()], SIDE) for image in images])
    assert_same_levels(np.asarray(resize(images.astype(np.float32), SIDE)), expected)


@pytest.mark.parametrize(
    "warp",
    [
        Warp(flip_horizontally=True),
        Warp(flip_vertically=True),
        Warp(angle=0.7, zoom=0.8),
        Warp(flip_horizontally=True, angle=-2.5, zoom=1.2),
        Warp(angle=1, zoom=2.9),  # beyond the reflection
    ],
)
def test_views_are_warped_as_predict_does_it(warp: Warp) -> None:
    images = np.concatenate([noise(1, SIDE, SIDE, 3), render_views(photograph(1), [Warp()], SIDE)])
    expected = np.concatenate([render_views(image, [warp], SIDE) for image in images])
    square = keras.ops.convert_to_tensor(images.astype(np.float32))
    assert_same_levels(np.asarray(warp_square(square, warp)), expected)


def test_one_layer_is_the_whole_head_however_its_features_are_scaled(backbones: dict[str, Path]) -> None:
    backbone = load_backbone(backbones["first"])
    random = np.random.default_rng(0)
    deviation = 10.0 ** random.uniform(-3, 3, 1280)
    mean = deviation * random.uniform(-100, 100, 1280)
    kernel = random.normal(size=(1280, 3)) / 30
    head = Head(*(array.astype(np.float32) for array in (mean, deviation, kernel, random.normal(size=3))))
    features = (mean + deviation * random.normal(size=(20, 1280))).astype(np.float32)

    model = build_exported(backbone, head, [Warp()])

    assert not [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    layer = model.get_layer("probabilities")
    exact = features.astype(np.float64) - head.mean
    logits = exact @ (head.kernel.astype(np.float64) / head.deviation[:, None]) + head.bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(layer(features)), expected, atol=2e-3)
