"""The backbone stage: where weights come from, and what the user reads when they cannot be had."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dermoscopy.features.backbones import fingerprint
from dermoscopy.features.networks import build, find_weights
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.params import Backbone
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import write_params


def section(weights: str, name: str = "MobileNetV2") -> Backbone:
    return Backbone(name=name, weights=weights, image_size=64, seed=1)


def test_a_file_as_keras_applications_publishes_it_gives_its_weights(keras: Any, tmp_path: Path) -> None:
    from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

    network = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    path = tmp_path / "mobilenet_v2_notop.h5"
    with h5py.File(path, "w") as file:
        save_weights_to_hdf5_group(file, network)
    model = build(keras, section(str(path)), str(path))
    for ours, theirs in zip(model.layers[2].get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_the_current_keras_form_are_read_too(keras: Any, mobilenet_weights: Path) -> None:
    model = build(keras, section(str(mobilenet_weights)), str(mobilenet_weights))
    again = build(keras, section(str(mobilenet_weights)), str(mobilenet_weights))
    assert fingerprint(model, "MobileNetV2", 64) == fingerprint(again, "MobileNetV2", 64)


def test_weights_of_another_network_are_refused(keras: Any, mobilenet_weights: Path) -> None:
    with pytest.raises(BackboneError, match="do not fit DenseNet121"):
        build(keras, section(str(mobilenet_weights), "DenseNet121"), str(mobilenet_weights))


def test_a_file_that_holds_no_weights_is_refused(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "page.weights.h5"
    path.write_text("<html>")
    with pytest.raises(BackboneError, match="do not fit MobileNetV2"):
        build(keras, section(str(path)), str(path))


def test_a_missing_file_is_refused_before_keras_starts() -> None:
    with pytest.raises(BackboneError, match=r"allowed is imagenet, random, or a file"):
        find_weights("no/such/file.h5")


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


def test_a_network_that_depends_on_where_its_weights_come_from_takes_no_file(
    keras: Any, mobilenet_weights: Path
) -> None:
    with pytest.raises(BackboneError, match="EfficientNetB0 takes imagenet or random weights only"):
        build(keras, section(str(mobilenet_weights), "EfficientNetB0"), str(mobilenet_weights))
