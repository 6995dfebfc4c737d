"""Class activation maps add up to the logits exactly, on a real backbone and a real head."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from dermoscopy.features.backbones import build_backbone, read_backbone_info
from dermoscopy.features.networks import write_backbone
from dermoscopy.model.activation_maps import LastMaps, LinearHead, linear_head
from dermoscopy.model.head import build_head
from dermoscopy.runtime.errors import BackboneError

CLASSES = 5


@pytest.fixture(scope="module")
def backbone(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """MobileNetV2 with random weights for images of 96 pixels, as Keras model and as folder with OpenVINO's form."""
    keras.utils.set_random_seed(1)
    model = build_backbone("MobileNetV2", None, 96)
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(model, "MobileNetV2", folder)
    return model, folder


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def head(keras: Any, backbone: tuple[Any, Path], images: NDArray[np.uint8]) -> Any:
    """A head with the statistics of the images' own features and large random weights."""
    features = np.asarray(backbone[0]([images.astype(np.float32)]), np.float64)
    head = build_head(features.mean(axis=0), features.var(axis=0) + 1e-12, dropout=0.5, classes=CLASSES)
    random = np.random.default_rng(1)
    head.layers[-1].set_weights([random.normal(size=(features.shape[1], CLASSES)), random.normal(size=CLASSES)])
    return head


@pytest.fixture(scope="module")
def linear(keras: Any, head: Any) -> LinearHead:
    return linear_head(head)


def test_the_mean_of_a_map_and_the_bias_are_the_logit(
    keras: Any, backbone: tuple[Any, Path], images: NDArray[np.uint8], head: Any, linear: LinearHead
) -> None:
    model, folder = backbone
    head_without_softmax = keras.Sequential([head.layers[0], keras.layers.Dense(CLASSES)])
    features = model([images.astype(np.float32)])
    head_without_softmax(features)
    head_without_softmax.layers[-1].set_weights(head.layers[-1].get_weights())
    expected = np.asarray(head_without_softmax(features))
    last_maps = LastMaps(folder)
    found = np.stack([linear.activation_maps(last_maps.run(image)).mean(axis=(0, 1)) + linear.bias for image in images])
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_maps_keep_the_places_of_the_image(
    backbone: tuple[Any, Path], images: NDArray[np.uint8], linear: LinearHead
) -> None:
    last_maps = LastMaps(backbone[1])
    maps = last_maps.run(images[0])
    assert maps.shape == (3, 3, 1280)
    assert linear.activation_maps(maps).shape == (3, 3, CLASSES)
    changed = images[0].copy()
    changed[:16, -16:] = 0  # the upper right corner
    difference = np.abs(last_maps.run(changed) - maps).sum(axis=-1)
    assert difference.argmax() == 2


def test_the_average_training_feature_adds_nothing(linear: LinearHead) -> None:
    maps = np.broadcast_to(linear.mean, (2, 2, len(linear.mean))).astype(np.float32)
    np.testing.assert_allclose(linear.activation_maps(maps), 0, atol=1e-3)


def test_a_backbone_that_is_missing_damaged_or_ends_otherwise_is_refused(
    backbone: tuple[Any, Path], tmp_path: Path
) -> None:
    with pytest.raises(BackboneError, match="holds no backbone"):
        LastMaps(tmp_path)
    parameter = openvino.opset13.parameter([1, 4, 4, 3], np.float32)
    model = openvino.Model([openvino.opset13.relu(parameter)], [parameter])
    openvino.save_model(model, tmp_path / "backbone.xml")
    info = read_backbone_info(backbone[1])
    (tmp_path / "backbone.json").write_text(info.model_dump_json())
    with pytest.raises(BackboneError, match="damaged or missing"):
        LastMaps(tmp_path)
    (tmp_path / "backbone.json").write_text(info.model_copy(update={"files": {}}).model_dump_json())
    with pytest.raises(BackboneError, match="ends in Relu, not in a mean"):
        LastMaps(tmp_path)
