"""Networks as backbones: the preprocessing of each, equal fingerprints for equal features, and what is refused."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.networks import (
    affine_preprocessing,
    available_backbones,
    build_backbone,
    cut_backbone,
    fingerprint,
    load_backbone,
)
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.keras_start import start_keras

NAME, SIZE = "MobileNet", 32  # built in half a second

MODES = {  # of keras' preprocess_input
    "tf": ["mobilenet", "mobilenet_v2", "inception_v3", "inception_resnet_v2", "resnet_v2", "xception", "nasnet"],
    "torch": ["densenet"],
    "caffe": ["vgg16", "vgg19", "resnet"],
    "none": ["convnext", "efficientnet", "efficientnet_v2", "mobilenet_v3"],
}


def random_fingerprint(seed: int) -> str:
    """Return the fingerprint of a network with random weights, as the backbone stage draws them."""
    start_keras(seed)
    return fingerprint(build_backbone(NAME, None, SIZE), NAME, SIZE)


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


def test_features_are_the_mean_over_the_feature_map_of_the_preprocessed_image(keras: Any) -> None:
    images = np.random.default_rng(2).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.float32)
    backbone = build_backbone("MobileNet", None, SIZE)
    network = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    network.set_weights(backbone.layers[2].get_weights())
    preprocessed = keras.applications.mobilenet.preprocess_input(images.copy())
    expected = np.asarray(network(preprocessed, training=False)).mean(axis=(1, 2))
    features = np.asarray(backbone([images]))
    assert features.shape == (3, 1024)
    assert np.abs(features - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_backbone_is_frozen() -> None:
    assert build_backbone(NAME, None, SIZE).trainable_weights == []


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(BackboneError, match=r"'MobilNetV2'.*DenseNet121, .*InceptionResNetV2, .*MobileNetV2, "):
        build_backbone("MobilNetV2", None, SIZE)


def test_a_module_of_keras_applications_is_not_a_backbone() -> None:
    with pytest.raises(BackboneError, match=r"is not in keras\.applications"):
        build_backbone("mobilenet_v2", None, SIZE)


@pytest.mark.parametrize(("name", "least"), [("InceptionResNetV2", 75), ("Xception", 71), ("MobileNetV2", 32)])
def test_an_image_size_that_is_too_small_is_refused_with_the_least(name: str, least: int) -> None:
    with pytest.raises(BackboneError, match=f"{name}.*image_size {least - 1}.*{least}"):
        build_backbone(name, None, least - 1)


def test_the_seed_decides_random_weights() -> None:
    assert random_fingerprint(seed=1) == random_fingerprint(seed=1) != random_fingerprint(seed=2)


def test_name_and_image_size_are_part_of_the_fingerprint() -> None:
    model = build_backbone(NAME, None, SIZE)
    assert len({fingerprint(model, name, size) for name in (NAME, "MobileNetV2") for size in (SIZE, 64)}) == 4


def test_the_preprocessing_is_part_of_the_fingerprint() -> None:
    model = build_backbone(NAME, None, SIZE)
    before = fingerprint(model, NAME, SIZE)
    preprocessing = model.get_layer("preprocessing")
    kernel, bias = preprocessing.get_weights()
    preprocessing.set_weights([kernel, bias + 1])
    assert fingerprint(model, NAME, SIZE) != before


def test_the_model_and_the_fingerprint_of_a_single_size_are_as_ever() -> None:
    """Features are kept by this fingerprint."""
    model = build_backbone(NAME, None, SIZE)
    network = model.layers[2]
    network.set_weights([np.full(weight.shape, 0.5, np.float32) for weight in network.get_weights()])
    assert [layer.name for layer in model.layers] == ["image", "preprocessing", "mobilenet_1.00_32", "pooling"]
    assert network.input_shape == (None, SIZE, SIZE, 3)
    assert fingerprint(model, NAME, SIZE) == "efc0daab3e15a1e3bf035d204daf0f82a626dc339419baac463fbb5a1d31a2d0"


@pytest.mark.parametrize("layers", [1, 38, "all"])
def test_a_backbone_at_several_sizes_is_not_cut_and_its_top_layers_learn(layers: int | Literal["all"]) -> None:
    backbone = build_backbone(NAME, None, [32, 64])
    (network,) = (layer for layer in backbone.layers if layer.name.startswith("mobilenet"))
    images = np.random.default_rng(0).uniform(0, 255, (1, 64, 64, 3)).astype(np.float32)
    before = np.asarray(backbone([images]))
    cut = cut_backbone(backbone, layers)
    count = len(network.layers) if layers == "all" else layers
    assert (cut.trunk, cut.top, cut.name, cut.layers) == (None, backbone, "", count)
    learning = [weight.path for layer in network.layers[-count:] for weight in layer.trainable_weights]
    assert [weight.path for weight in backbone.trainable_weights] == learning
    np.testing.assert_array_equal(np.asarray(backbone([images])), before)


@pytest.mark.parametrize("name", ["first", "network"])
def test_a_stored_backbone_is_loaded_with_its_weights(backbones: dict[str, Path], name: str) -> None:
    info = read_backbone_info(backbones[name])
    model = load_backbone(backbones[name])
    assert fingerprint(model, info.name, info.image_size) == info.fingerprint
    assert model.output_shape == (None, info.dim)
