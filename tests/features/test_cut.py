"""A backbone cut in two: the trunk and the top together are the backbone, and only the top learns."""

from pathlib import Path

import keras
import numpy as np
import pytest

from dermoscopy.features.networks import build_backbone, cut_backbone, load_backbone


@pytest.fixture
def backbone(backbones: dict[str, Path]) -> keras.Model:
    return load_backbone(backbones["first"])


def images(size: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3)).astype(np.float32)


def learning(backbone: keras.Model) -> list[str]:
    """Return the names of the layers that have weights to learn."""
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    return [layer.name for layer in [*backbone.layers[:2], *network.layers] if layer.trainable and layer.weights]


def test_trunk_and_top_together_are_the_backbone(backbone: keras.Model) -> None:
    whole = backbone.predict(images(64), verbose=0)
    cut = cut_backbone(backbone, 38)
    assert cut.trunk is not None
    maps = cut.trunk.predict(images(64), verbose=0)
    np.testing.assert_array_equal(cut.top.predict(maps, verbose=0), whole)


@pytest.mark.parametrize(
    ("layers", "cut", "learning_layers"),
    [(38, "block_12_add", 38), (39, "block_11_add", 47), (1, "Conv_1_bn", 1), (20, "block_14_add", 20)],
)
def test_the_cut_is_where_everything_passes_and_at_least_as_many_layers_learn_as_asked(
    backbone: keras.Model, layers: int, cut: str, learning_layers: int
) -> None:
    done = cut_backbone(backbone, layers)
    assert (done.name, done.layers) == (cut, learning_layers)


def test_only_layers_above_the_cut_learn(backbone: keras.Model) -> None:
    cut_backbone(backbone, 38)
    assert {name.split("_")[1] for name in learning(backbone) if name.startswith("block_")} == {"13", "14", "15", "16"}
    assert {name for name in learning(backbone) if not name.startswith("block_")} == {"Conv_1", "Conv_1_bn"}


@pytest.mark.parametrize("layers", ["all", 10_000])
def test_all_layers_learn_but_the_preprocessing_and_there_is_no_trunk(backbone: keras.Model, layers: int) -> None:
    done = cut_backbone(backbone, layers)
    assert done.trunk is None
    assert done.top is backbone
    assert "Conv1" in learning(backbone)
    assert "preprocessing" not in learning(backbone)


def test_what_learns_is_shared_with_the_backbone(backbone: keras.Model) -> None:
    cut = cut_backbone(backbone, 38)
    before = backbone.predict(images(64), verbose=0)
    for weight in cut.top.trainable_weights:
        weight.assign(weight + 0.1)
    assert not np.allclose(backbone.predict(images(64), verbose=0), before)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["DenseNet121", "EfficientNetV2B0", "ResNet50"])
def test_other_networks_are_cut_too(name: str) -> None:
    backbone = build_backbone(name, None, 96)
    whole = backbone.predict(images(96, 1), verbose=0)
    cut = cut_backbone(backbone, 40)
    assert cut.trunk is not None
    assert cut.layers >= 40
    joined = cut.top.predict(cut.trunk.predict(images(96, 1), verbose=0), verbose=0)
    np.testing.assert_allclose(joined, whole, rtol=1e-5, atol=1e-6)
