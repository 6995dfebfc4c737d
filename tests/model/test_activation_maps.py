"""Class activation maps add up to the logits exactly, on a real backbone and a real head."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.networks import load_backbone, write_backbone
from dermoscopy.model.activation_maps import LastMaps
from dermoscopy.model.head import Head
from dermoscopy.runtime.errors import BackboneError

CLASSES = 5


@pytest.fixture(scope="module")
def backbone(backbones: dict[str, Path]) -> Any:
    """MobileNetV2, whose last maps are 2 x 2 for images of 64 pixels, as a Keras model."""
    return load_backbone(backbones["first"])


@pytest.fixture(scope="module")
def last_maps(backbones: dict[str, Path]) -> LastMaps:
    return LastMaps(backbones["first"])


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def head(backbone: Any, images: NDArray[np.uint8]) -> Head:
    """A head with random weights, as large as the features of random networks are small: 1e-12."""
    features = np.asarray(backbone([images.astype(np.float32)]), np.float64)
    random = np.random.default_rng(1)
    kernel = random.normal(size=(features.shape[1], CLASSES)) / features.std()
    deviation, bias = np.full(features.shape[1], 2), random.normal(size=CLASSES)
    return Head(*(array.astype(np.float32) for array in (features.mean(axis=0), deviation, kernel, bias)))


def test_the_mean_of_a_map_and_the_bias_are_the_logit(
    backbone: Any, last_maps: LastMaps, images: NDArray[np.uint8], head: Head
) -> None:
    features = np.asarray(backbone([images.astype(np.float32)]), np.float64)
    expected = (features - head.mean) / head.deviation @ head.kernel + head.bias
    maps = [head.activation_maps(last_maps.maps(image)) for image in images]
    found = np.stack([of_image.mean(axis=(0, 1)) + head.bias for of_image in maps])
    assert np.abs(expected - expected.mean(axis=0)).max() > 1  # more than the bias
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_maps_keep_the_places_of_the_image(keras: Any, images: NDArray[np.uint8], tmp_path: Path) -> None:
    image = keras.Input((64, 64, 3), name="image")
    blocks = keras.layers.Conv2D(7, 16, strides=16)(image)  # each place sees 16 x 16 pixels of its own
    model = keras.Model([image], keras.layers.GlobalAveragePooling2D()(blocks))
    write_backbone(model, "blocks", tmp_path)
    last_maps = LastMaps(tmp_path)
    maps = last_maps.maps(images[0])
    assert maps.shape == (4, 4, 7)
    for row, column in [(0, 0), (0, 3), (2, 1), (3, 3)]:
        changed = images[0].copy()
        changed[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] //= 2
        places = np.argwhere(np.abs(last_maps.maps(changed) - maps).max(axis=-1) > 1e-3)
        assert places.tolist() == [[row, column]]


def test_a_map_has_a_value_for_each_place_and_class(last_maps: LastMaps, images: NDArray[np.uint8], head: Head) -> None:
    maps = last_maps.maps(images[0])
    assert maps.shape == (2, 2, 1280)
    assert head.activation_maps(maps).shape == (2, 2, CLASSES)


def test_the_average_training_feature_adds_nothing(head: Head) -> None:
    maps = np.broadcast_to(head.mean, (2, 2, len(head.mean))).astype(np.float32)
    np.testing.assert_allclose(head.activation_maps(maps), 0, atol=1e-3)


def test_a_backbone_that_is_missing_damaged_or_ends_otherwise_is_refused(
    backbones: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(BackboneError, match="holds no backbone"):
        LastMaps(tmp_path)
    parameter = openvino.opset13.parameter([1, 4, 4, 3], np.float32)
    model = openvino.Model([openvino.opset13.relu(parameter)], [parameter])
    openvino.save_model(model, tmp_path / "backbone.xml")
    info = read_backbone_info(backbones["first"])
    (tmp_path / "backbone.json").write_text(info.model_dump_json())
    with pytest.raises(BackboneError, match="damaged or missing"):
        LastMaps(tmp_path)
    (tmp_path / "backbone.json").write_text(info.model_copy(update={"files": {}}).model_dump_json())
    with pytest.raises(BackboneError, match="ends in Relu, not in a mean"):
        LastMaps(tmp_path)
