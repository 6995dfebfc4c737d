"""A backbone at several sizes of each image: its features are those at each size, one behind the other."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.data.images import read_image
from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.networks import build_backbone, build_from_params, fingerprint, load_backbone, write_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.activation_maps import LastMaps
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.params import Backbone

NAME, SIZES, SIDE = "MobileNet", [32, 64, 128], 128  # its last maps have 1, 2 and 4 places a side


@pytest.fixture(scope="module")
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def backbone() -> Any:
    return build_backbone(NAME, None, SIZES)


@pytest.fixture(scope="module")
def folder(backbone: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage writes of it."""
    path = tmp_path_factory.mktemp("sizes")
    write_backbone(backbone, NAME, path)
    return path


def averaged_down(images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Return square images, (n, side, side, 3), as (n, size, size, 3): a pixel is the mean of those it stands for."""
    times = images.shape[1] // size
    return images.reshape(-1, size, times, size, times, 3).mean(axis=(2, 4)).astype(np.float32)


def network_of(backbone: Any) -> Any:
    """Return the layer that is the network."""
    (network,) = (layer for layer in backbone.layers if hasattr(layer, "layers"))
    return network


def features_of_single_sizes(
    name: str, backbone: Any, sizes: list[int], images: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Return the features of a backbone of each size alone, with the same weights."""
    features = []
    for size in sizes:
        single = build_backbone(name, None, size)
        network_of(single).set_weights(network_of(backbone).get_weights())
        features.append(np.asarray(single([averaged_down(images, size)])))
    return features


def assert_same(found: NDArray[np.float32], expected: NDArray[np.float32], tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


def test_the_features_are_those_at_each_size_one_behind_the_other(backbone: Any, images: NDArray[np.uint8]) -> None:
    expected = features_of_single_sizes(NAME, backbone, SIZES, images)
    found = np.split(np.asarray(backbone([images.astype(np.float32)])), len(SIZES), axis=1)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)
    for smaller, larger in pairwise(expected):  # no size has the features of another
        assert np.abs(smaller - larger).max() > 1e-2 * np.abs(larger).max()


def test_all_sizes_share_one_network(backbone: Any) -> None:
    assert network_of(backbone).count_params() == network_of(build_backbone(NAME, None, SIDE)).count_params()
    preprocessing = 3 * 3 + 3
    assert backbone.count_params() == network_of(backbone).count_params() + preprocessing
    assert backbone.trainable_weights == []


def test_both_engines_give_these_features(backbone: Any, folder: Path, images: NDArray[np.uint8]) -> None:
    expected = np.asarray(backbone([images.astype(np.float32)]))
    for engine in ("openvino", "tensorflow"):
        assert_same(load_engine(engine, folder).compute(images, len(images)), expected)


def test_the_weights_are_stored_once_in_each_form(folder: Path) -> None:
    weights = 4 * load_backbone(folder).count_params()
    for name in ("backbone.bin", "backbone.weights.h5"):
        assert (folder / name).stat().st_size < 1.2 * weights


def test_its_description_has_the_sizes_of_the_params_and_the_side_of_the_images(folder: Path) -> None:
    info = read_backbone_info(folder)
    assert (info.image_size, info.side, info.dim) == (SIZES, SIDE, 3 * 1024)
    assert info.sizes_in_words == "32 x 32 and 64 x 64 and 128 x 128"
    model = load_backbone(folder)
    assert model.input_shape == (None, SIDE, SIDE, 3)
    assert fingerprint(model, NAME, SIZES) == info.fingerprint


def test_the_description_of_a_single_size_is_the_number_as_ever(backbones: dict[str, Path]) -> None:
    assert '"image_size": 64,' in (backbones["first"] / "backbone.json").read_text()
    info = read_backbone_info(backbones["first"])
    assert (info.image_size, info.side, info.sizes_in_words) == (64, 64, "64 x 64")


def test_every_size_is_part_of_the_fingerprint(backbone: Any) -> None:
    fingerprints = {fingerprint(backbone, NAME, size) for size in (SIZES, [32, 128], [64, 128], 128)}
    assert len(fingerprints) == 4


def test_the_mean_of_the_last_maps_is_the_feature_at_every_size(folder: Path, images: NDArray[np.uint8]) -> None:
    last_maps, features = LastMaps(folder), load_engine("openvino", folder).compute(images, len(images))
    for image, expected in zip(images, features, strict=True):
        maps = last_maps.maps(image)
        assert maps.shape == (4, 4, 3 * 1024)
        assert_same(maps.mean(axis=(0, 1)), expected)
        smallest, middle, largest = np.split(maps, 3, axis=2)
        assert (smallest == smallest[:1, :1]).all()
        assert (middle == middle[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)).all()
        assert not (largest == largest[::2, ::2].repeat(2, axis=0).repeat(2, axis=1)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "places"),
    [
        ("MobileNetV2", [64, 192], 6),
        ("DenseNet121", [64, 128], 4),
    ],
)
def test_every_kind_of_network_runs_at_several_sizes(
    name: str, sizes: list[int], places: int, tmp_path: Path, keras: Any
) -> None:
    backbone = build_backbone(name, None, sizes)
    images = np.random.default_rng(1).integers(0, 256, (2, sizes[-1], sizes[-1], 3), np.uint8)
    expected = np.asarray(backbone([images.astype(np.float32)]))
    assert_same(expected, np.concatenate(features_of_single_sizes(name, backbone, sizes, images), axis=1))
    write_backbone(backbone, name, tmp_path)
    for engine in ("openvino", "tensorflow"):
        assert_same(load_engine(engine, tmp_path).compute(images, 2), expected, tolerance=1e-4)
    maps = LastMaps(tmp_path).maps(images[0])
    assert maps.shape[:2] == (places, places)
    assert_same(maps.mean(axis=(0, 1), dtype=np.float64).astype(np.float32), expected[0], tolerance=1e-4)


@pytest.mark.slow
def test_a_weights_file_gives_real_images_the_features_of_two_backbones(
    isic: Path, mobilenet_weights: Path, tmp_path: Path
) -> None:
    weights = str(mobilenet_weights)
    params = Backbone(name="MobileNetV2", weights=weights, image_size=[224, 448], seed=1)
    paths = sorted((isic / "images").iterdir())[:2]
    images = np.stack([render_views(read_image(path), [Warp()], 448)[0] for path in paths])
    expected = np.concatenate(
        [
            np.asarray(build_backbone("MobileNetV2", weights, size)([averaged_down(images, size)]))
            for size in (224, 448)
        ],
        axis=1,
    )
    write_backbone(build_from_params(params, weights), "MobileNetV2", tmp_path)
    assert_same(load_engine("tensorflow", tmp_path).compute(images, 2), expected)
    assert_same(load_engine("openvino", tmp_path).compute(images, 2), expected)
    assert np.abs(expected[:, :1280] - expected[:, 1280:]).max() > 0.1 * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes"), [("InceptionV3", [64, 128])])
def test_a_network_that_cannot_be_run_at_one_of_the_sizes_is_refused(name: str, sizes: list[int]) -> None:
    with pytest.raises(
        BackboneError, match=r"image_size = \[64, 128\]: this network cannot be run at 64 pixels"
    ) as error:
        build_backbone(name, None, sizes)
    assert "\n" not in str(error.value)


def test_maps_that_have_too_many_places_in_common_are_refused() -> None:
    with pytest.raises(BackboneError, match="have 14 and 30 places a side, and 210 in common, where at most 80"):
        build_backbone("InceptionV3", None, [512, 1024])


@pytest.mark.parametrize(("sizes", "side", "words"), [(96, 96, "96 x 96"), ([96, 192], 192, "96 x 96 and 192 x 192")])
def test_the_sizes_of_a_description_survive_the_file(sizes: Any, side: int, words: str, tmp_path: Path) -> None:
    info = BackboneInfo(name=NAME, image_size=sizes, dim=1, fingerprint="0" * 64, files={})
    (tmp_path / "backbone.json").write_text(info.model_dump_json())
    read = read_backbone_info(tmp_path)
    assert (read.image_size, read.side, read.sizes_in_words) == (sizes, side, words)
