"""Engines: the same features from all, whatever else is in the batch."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.data.images import read_image
from dermoscopy.features.engines.choice import Engine, EngineName, choose_engine, engine_identity, load_engine
from dermoscopy.features.networks import build_backbone, write_backbone
from dermoscopy.features.views import Warp, render_views

NAMES: tuple[EngineName, ...] = ("openvino", "tensorflow")


def render(photographs: list[NDArray[np.uint8]], size: int) -> list[NDArray[np.uint8]]:
    """Return photographs as squares."""
    return [render_views(pixels, [Warp()], size)[0] for pixels in photographs]


@pytest.fixture(scope="module")
def images(photographs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Seven, of the size of `backbones`."""
    return render(list(photographs.values()), 64)


@pytest.fixture(scope="module")
def engines(backbones: dict[str, Path]) -> dict[str, Engine]:
    return {name: load_engine(name, backbones["first"]) for name in NAMES}


def assert_agree(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    for a, b in zip(ours, theirs, strict=True):
        assert np.linalg.norm(a - b) < 1e-4 * np.linalg.norm(a)
        assert np.abs(a - b).max() < 1e-4 * np.abs(a).max()


def test_all_engines_give_the_same_features(engines: dict[str, Engine], images: list[NDArray[np.uint8]]) -> None:
    ours, theirs = (engines[name].compute(images, len(images)) for name in NAMES)
    assert ours.shape == (len(images), 1280)
    assert_agree(ours, theirs)
    of_another_image = engines["tensorflow"].compute(images[1:2], 1)
    assert np.linalg.norm(ours[0] - of_another_image) > 1e-3 * np.linalg.norm(ours[0])  # what agrees is not a constant


@pytest.mark.slow
def test_real_weights_tell_real_images_apart_on_all_engines_alike(
    isic: Path, mobilenet_weights: Path, tmp_path: Path
) -> None:
    write_backbone(build_backbone("MobileNetV2", str(mobilenet_weights), 224), "MobileNetV2", tmp_path)
    paths = sorted((isic / "images").iterdir())[:6]
    images = render([read_image(path) for path in paths], 224)
    ours, theirs = (load_engine(name, tmp_path).compute(images, 6) for name in NAMES)
    assert_agree(ours, theirs)
    for number in range(1, 6):
        assert np.linalg.norm(ours[number] - ours[0]) > 0.1 * np.linalg.norm(ours[0])


@pytest.mark.parametrize(("name", "tolerance"), [("openvino", 0), ("tensorflow", 1e-5)])
def test_features_do_not_depend_on_order_or_count(
    engines: dict[str, Engine], images: list[NDArray[np.uint8]], name: EngineName, tolerance: float
) -> None:
    engine = engines[name]
    features = engine.compute(images, len(images))
    allowed = tolerance * np.abs(features).max()
    order = [5, 1, 1, 0, 3, 2, 6, 4] * 5  # more than a batch
    again = engine.compute((images[number] for number in order), len(order))
    assert np.abs(again - features[order]).max() <= allowed
    assert np.abs(engine.compute(images[2:3], 1) - features[2:3]).max() <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_asked_for_by_name_is_taken(name: EngineName) -> None:
    assert choose_engine(name) == name


def test_auto_is_openvino_where_no_gpu_has_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_engine("auto") == "openvino"


def test_an_identity_names_engine_versions_and_device() -> None:
    assert engine_identity("openvino").split()[0] == "openvino"
    assert engine_identity("openvino").split()[1][0].isdigit()
    assert ", keras " in engine_identity("openvino")
    assert engine_identity("openvino").endswith(", CPU")
    assert engine_identity("openvino") != engine_identity("tensorflow")
