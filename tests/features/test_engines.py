"""Engines: the same features from both, whatever else is in the batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.data.images import read_image
from dermoscopy.features.backbones import build_backbone
from dermoscopy.features.engines.choice import (
    Engine,
    OpenVINOEngine,
    TensorFlowEngine,
    choose_engine,
    engine_identity,
    load_engine,
)
from dermoscopy.features.networks import write_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.runtime.errors import BackboneError

SIZE = 224


@pytest.fixture(scope="session")
def backbone(keras: Any, mobilenet_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the backbone stage makes it: MobileNetV2 with its ImageNet weights."""
    folder = tmp_path_factory.mktemp("backbone")
    model = build_backbone("MobileNetV2", str(mobilenet_weights), SIZE)
    write_backbone(model, "MobileNetV2", folder)
    return folder


@pytest.fixture(scope="session")
def openvino(backbone: Path) -> Engine:
    return OpenVINOEngine(backbone)


@pytest.fixture(scope="session")
def tensorflow(backbone: Path) -> Engine:
    return TensorFlowEngine(backbone)


@pytest.fixture(scope="session")
def images(isic: Path) -> list[NDArray[np.uint8]]:
    paths = sorted((isic / "images").iterdir())[:6]
    return [render_views(read_image(path), [Warp()], SIZE)[0] for path in paths]


def test_both_engines_give_the_same_features(
    openvino: Engine, tensorflow: Engine, images: list[NDArray[np.uint8]]
) -> None:
    ours, theirs = openvino.run(images, 6), tensorflow.run(images, 6)
    assert ours.shape == theirs.shape == (6, 1280)
    assert ours.dtype == theirs.dtype == np.float32
    for a, b in zip(ours, theirs, strict=True):
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(a)
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_features_tell_images_apart(openvino: Engine, images: list[NDArray[np.uint8]]) -> None:
    features = openvino.run(images, 6)
    for number in range(1, 6):
        assert np.linalg.norm(features[number] - features[0]) > 0.1 * np.linalg.norm(features[0])


def test_openvino_features_do_not_depend_on_order_or_count(openvino: Engine, images: list[NDArray[np.uint8]]) -> None:
    features = openvino.run(images, 6)
    order = [5, 1, 1, 0, 3, 2, 4] * 5
    assert np.array_equal(openvino.run((images[number] for number in order), len(order)), features[order])
    assert np.array_equal(openvino.run(images[2:3], 1), features[2:3])


def test_tensorflow_features_do_not_depend_on_order_or_count(
    tensorflow: Engine, images: list[NDArray[np.uint8]]
) -> None:
    features = tensorflow.run(images, 6)
    order = [5, 1, 1, 0, 3, 2, 4] * 5  # more than a batch
    tolerance = 1e-5 * np.abs(features).max()
    assert np.abs(tensorflow.run((images[number] for number in order), len(order)) - features[order]).max() < tolerance
    assert np.abs(tensorflow.run(images[2:3], 1) - features[2:3]).max() < tolerance


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_an_engine_asked_for_by_name_is_taken(engine: Any) -> None:
    assert choose_engine(engine) == engine


def test_auto_is_openvino_where_no_gpu_has_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_engine("auto") == "openvino"


def test_an_identity_names_library_and_version() -> None:
    assert engine_identity("openvino").split()[0] == "openvino"
    assert engine_identity("openvino").split()[1][0].isdigit()
    assert engine_identity("openvino") != engine_identity("tensorflow")


@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_an_engine_without_a_backbone_says_what_makes_one(tmp_path: Path, engine: Any) -> None:
    with pytest.raises(BackboneError, match="run dvc repro backbone"):
        load_engine(engine, tmp_path)
