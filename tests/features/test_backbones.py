"""Backbones: right preprocessing, equal fingerprints for equal features, one line for what cannot be built."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermoscopy.features.backbones import (
    affine_preprocessing,
    available_backbones,
    build_backbone,
    fingerprint,
    load_backbone,
    read_backbone_info,
)
from dermoscopy.features.engines.choice import OpenVINOEngine
from dermoscopy.features.networks import write_backbone
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.keras_start import start_keras

NAME, SIZE = "MobileNet", 32  # built in a second, with random weights

MODES = {  # of keras' preprocess_input
    "tf": ["mobilenet", "mobilenet_v2", "inception_v3", "inception_resnet_v2", "resnet_v2", "xception", "nasnet"],
    "torch": ["densenet"],
    "caffe": ["vgg16", "vgg19", "resnet"],
    "none": ["convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"],
}


def random_fingerprint(seed: int) -> str:
    """Return the fingerprint of a network with random weights, as the backbone stage draws them."""
    return fingerprint(build_backbone(start_keras(seed), NAME, None, SIZE), NAME, SIZE)


@pytest.mark.parametrize("module", [module for modules in MODES.values() for module in modules])
def test_the_preprocessing_is_that_of_keras(keras: Any, module: str) -> None:
    preprocess_input = getattr(keras.applications, module).preprocess_input
    kernel, bias = affine_preprocessing(preprocess_input)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 9, 9, 3)).astype(np.float32)
    assert np.allclose(pixels @ kernel + bias, preprocess_input(pixels.copy()), rtol=0, atol=1e-4)


def test_every_mode_of_preprocessing_is_among_those_compared(keras: Any) -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    by_mode = {
        mode: {np.asarray(getattr(keras.applications, m).preprocess_input(pixels.copy())).tobytes() for m in modules}
        for mode, modules in MODES.items()
    }
    assert [len(results) for results in by_mode.values()] == [1, 1, 1, 1]
    assert len(set().union(*by_mode.values())) == 4


def test_every_available_backbone_has_a_preprocessing_that_was_compared(keras: Any) -> None:
    modules = {getattr(keras.applications, name).__module__.split(".")[-1] for name in available_backbones()}
    assert modules == {module for modules in MODES.values() for module in modules}


def test_preprocessing_that_is_not_affine_is_refused() -> None:
    with pytest.raises(BackboneError, match="not affine"):
        affine_preprocessing(np.square)


def test_features_are_the_mean_over_the_feature_map_of_the_preprocessed_image(
    keras: Any, mobilenet_weights: Path
) -> None:
    weights = str(mobilenet_weights)
    images = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    network = keras.applications.MobileNetV2(include_top=False, weights=weights, input_shape=(64, 64, 3))
    preprocessed = keras.applications.mobilenet_v2.preprocess_input(images.copy())
    expected = np.asarray(network(preprocessed, training=False)).mean(axis=(1, 2))
    features = np.asarray(build_backbone("MobileNetV2", weights, 64)([images]))
    assert features.shape == (3, 1280)
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_backbone_is_frozen(keras: Any) -> None:
    assert build_backbone(NAME, None, SIZE).trainable_weights == []


def test_an_unknown_name_is_refused_with_those_there_are(keras: Any) -> None:
    with pytest.raises(BackboneError, match=r"'MobilNetV2'.*DenseNet121, .*InceptionResNetV2, .*MobileNetV2, "):
        build_backbone("MobilNetV2", None, SIZE)


def test_a_module_of_keras_applications_is_no_backbone(keras: Any) -> None:
    with pytest.raises(BackboneError, match="is not in keras"):
        build_backbone("mobilenet_v2", None, SIZE)


@pytest.mark.parametrize(("name", "least"), [("InceptionResNetV2", 75), ("Xception", 71), ("MobileNetV2", 32)])
def test_an_image_size_that_is_too_small_is_refused_with_the_least(keras: Any, name: str, least: int) -> None:
    with pytest.raises(BackboneError, match=f"{name}.*image_size {least - 1}.*{least}"):
        build_backbone(name, None, least - 1)


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # one for each layer that finds no weights
def test_weights_of_another_network_are_refused(keras: Any, mobilenet_weights: Path) -> None:
    with pytest.raises(BackboneError, match="MobileNet with weights"):
        build_backbone("MobileNet", str(mobilenet_weights), SIZE)


def test_the_seed_decides_random_weights() -> None:
    assert random_fingerprint(seed=1) == random_fingerprint(seed=1) != random_fingerprint(seed=2)


def test_no_weight_from_a_file_is_left_to_the_seed(mobilenet_weights: Path) -> None:
    first, second = (
        fingerprint(build_backbone(start_keras(seed), "MobileNetV2", str(mobilenet_weights), SIZE), "MobileNetV2", SIZE)
        for seed in (1, 2)
    )
    assert first == second


def test_name_and_image_size_are_part_of_the_fingerprint(keras: Any) -> None:
    model = build_backbone(NAME, None, SIZE)
    assert len({fingerprint(model, name, size) for name in (NAME, "MobileNetV2") for size in (SIZE, 64)}) == 4


def test_the_preprocessing_is_part_of_the_fingerprint(keras: Any) -> None:
    model = build_backbone(NAME, None, SIZE)
    before = fingerprint(model, NAME, SIZE)
    preprocessing = model.get_layer("preprocessing")
    kernel, bias = preprocessing.get_weights()
    preprocessing.set_weights([kernel, bias + 1])
    assert fingerprint(model, NAME, SIZE) != before


def test_a_stored_backbone_is_loaded_with_its_weights(tmp_path: Path) -> None:
    model = build_backbone(start_keras(3), NAME, None, SIZE)
    info = write_backbone(model, NAME, tmp_path)
    loaded = load_backbone(start_keras(4), tmp_path)
    assert fingerprint(loaded, NAME, SIZE) == fingerprint(model, NAME, SIZE) == info.fingerprint
    assert read_backbone_info(tmp_path) == info


@pytest.mark.parametrize("name", ["architecture.json", "backbone.weights.h5", "backbone.xml", "backbone.bin"])
@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "missing"])
def test_a_backbone_with_a_damaged_file_is_refused(keras: Any, tmp_path: Path, name: str, damage: str) -> None:
    write_backbone(build_backbone(NAME, None, SIZE), NAME, tmp_path)
    path = tmp_path / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 1
    if damage != "missing":
        path.write_bytes(content[: len(content) - (damage == "cut short")])
    message = f"{name} is damaged or missing: run dvc repro backbone"
    with pytest.raises(BackboneError, match=message):
        load_backbone(tmp_path)
    with pytest.raises(BackboneError, match=message):
        OpenVINOEngine(tmp_path)


@pytest.mark.parametrize("content", [None, "", "{}", '{"name": "MobileNetV2"'], ids=str)
def test_a_folder_without_a_whole_description_says_what_makes_it(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "backbone.json").write_text(content, encoding="utf-8")
    with pytest.raises(BackboneError, match="run dvc repro backbone"):
        read_backbone_info(tmp_path)
