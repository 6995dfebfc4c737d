"""Weights of a backbone: every form of file there is, and what the user reads when they cannot be had."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dermoscopy.features.networks import build_from_params, fingerprint
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Backbone
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import write_params

SIZE = 32


def build(path: Path, name: str = "MobileNet") -> Any:
    """Return a backbone of the weights in a file, as the backbone stage makes it."""
    return build_from_params(Backbone(name=name, weights=str(path), image_size=SIZE, seed=1), str(path))


@pytest.fixture(scope="module")
def network(keras: Any) -> Any:
    """A network of keras.applications for images of another size, with random weights."""
    return keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))


@pytest.fixture(scope="module")
def weights_file(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of that network in the form of Keras 3."""
    path = tmp_path_factory.mktemp("weights") / "mobilenet_notop.weights.h5"
    network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def published_file(network: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in the older form, in which keras.applications publishes weights."""
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    path = tmp_path_factory.mktemp("weights") / "mobilenet_notop.h5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, network)
    return path


def assert_has_weights_of(model: Any, network: Any) -> None:
    for ours, theirs in zip(model.layers[2].get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_as_keras_applications_publishes_it_gives_its_weights(network: Any, published_file: Path) -> None:
    assert_has_weights_of(build(published_file), network)


def test_no_weight_from_a_file_is_left_to_the_seed(network: Any, weights_file: Path) -> None:
    fingerprints = set()
    for seed in (1, 2):
        start_keras(seed)
        model = build(weights_file)
        assert_has_weights_of(model, network)
        fingerprints.add(fingerprint(model, "MobileNet", SIZE))
    assert len(fingerprints) == 1


def test_the_published_weights_of_a_network_are_read(mobilenet_weights: Path) -> None:
    weights = build(mobilenet_weights, "MobileNetV2").layers[2].get_weights()
    with h5py.File(mobilenet_weights) as file:
        stored: list[Any] = []
        file.visititems(lambda name, item: stored.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    assert sum(array.size for array in weights) == sum(array.size for array in stored)
    assert sum(float(np.abs(array).sum()) for array in weights) == pytest.approx(
        sum(float(np.abs(array).sum()) for array in stored), rel=1e-5
    )


def test_weights_of_another_network_are_refused(weights_file: Path, published_file: Path) -> None:
    with pytest.raises(BackboneError, match=f"{weights_file} do not fit MobileNetV2"):
        build(weights_file, "MobileNetV2")
    with pytest.raises(BackboneError, match=f"backbone MobileNetV2 with weights {published_file}"):
        build(published_file, "MobileNetV2")


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "page.weights.h5"
    path.write_text("<html>")
    with pytest.raises(BackboneError, match="do not fit MobileNet"):
        build(path)


def test_a_network_that_depends_on_where_its_weights_come_from_takes_no_file(weights_file: Path) -> None:
    with pytest.raises(BackboneError, match="EfficientNetB0 takes imagenet or random weights only"):
        build(weights_file, "EfficientNetB0")


@pytest.mark.slow
def test_without_a_network_one_line_names_the_file_and_the_way_out(tmp_path: Path) -> None:
    write_params(tmp_path, {"backbone": {"name": "MobileNetV2", "image_size": 96}})
    closed = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    result = subprocess.run(
        [sys.executable, "-m", "stages.backbone"],
        cwd=tmp_path,
        env=os.environ | closed | {"PYTHONPATH": str(PROJECT), "KERAS_HOME": str(tmp_path / "keras")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: the ImageNet weights of MobileNetV2 cannot be fetched")
    assert "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5" in line
    assert "set backbone.weights to its path" in line
    assert not (tmp_path / "models").exists()
