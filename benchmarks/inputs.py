"""Input for the benchmarks of engines: backbones with random weights, images of noise, drawn photographs."""

import hashlib
import os
import time
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.timing import timed
from benchmarks.workers import Worker
from dermoscopy.data.sources.lesions import PAINTERS, draw_lesion
from dermoscopy.runtime.keras_start import start_keras

SIZE = 224
ONNX = "backbone.onnx"  # what ONNX Runtime runs; written where tf2onnx is installed


@dataclass(frozen=True)
class BackboneFolder:
    """A backbone as the backbone stage makes it, in the folder `path`; building and writing took `seconds`."""

    name: str
    path: Path
    multiply_adds: int
    seconds: float


@cache
def scratch_folder() -> "TemporaryDirectory[str]":
    """Return a folder that lasts as long as this process; no worker has one, because it would leave it behind."""
    return TemporaryDirectory(prefix="benchmarks-")


@cache
def make_backbone(name: str, size: int = SIZE) -> BackboneFolder:
    """Return a backbone of keras.applications with random weights, in a folder that lasts as long as this process."""
    path = Path(scratch_folder().name) / f"{name}-{size}"
    path.mkdir()
    with closing(Worker(_write_backbone, name, size, path)) as worker:
        multiply_adds, seconds = worker.loaded()
    return BackboneFolder(name, path, multiply_adds, seconds)


def _write_backbone(name: str, size: int, folder: Path) -> tuple[int, float]:
    start = time.perf_counter()
    start_keras(seed=0)
    from dermoscopy.features.networks import build_backbone

    model = build_backbone(name, None, size)
    built = time.perf_counter() - start
    return count_multiply_adds(model), built + write_forms(model, name, folder)


def write_forms(model: Any, name: str, folder: Path) -> float:
    """Write a backbone as its stage does, and return the seconds of that; also as ONNX where tf2onnx is."""
    from dermoscopy.features.networks import write_backbone

    seconds = timed(partial(write_backbone, model, name, folder))
    if find_spec("tf2onnx") is not None:
        export_onnx(model, folder / ONNX)
    return seconds


def count_multiply_adds(model: Any) -> int:
    """Return how many multiplications, each with an addition, all convolutions and dense layers take for one image.

    Each weight of a kernel is multiplied once for every position of the layer's output.
    """
    return sum(
        prod(weight.shape) * prod(layer.output.shape[1:-1])
        for layer in model._flatten_layers(include_self=False)
        for weight in getattr(layer, "_trainable_variables", [])
        if "kernel" in weight.name
    )


def export_onnx(model: Any, path: Path) -> None:
    """Write the model as ONNX, one image a request.

    Keras' own export fails on ConvNeXt: its grouped convolutions are functions for XLA, which tf2onnx cannot convert,
    its GELU is an Erfc, which ONNX does not have, and its constants would become inputs.
    """
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"  # or it copies the whole graph at every step, which doubles the time
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    def gelu(x: Any, approximate: bool = False) -> Any:
        return 0.5 * x * (1.0 + tf.math.erf(x / np.sqrt(2).astype(np.float32)))

    image = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="image")
    tf.config.run_functions_eagerly(True)  # inner functions become part of the outer one
    with patch.object(tf.nn, "gelu", gelu):
        traced = tf.function(lambda image: model([image], training=False)).get_concrete_function(image)
        frozen = convert_variables_to_constants_v2(traced)
    tf.config.run_functions_eagerly(False)
    tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        input_names=[frozen.inputs[0].name],
        output_names=[frozen.outputs[0].name],
        opset=17,
        output_path=str(path),
    )


def noise_images(count: int, size: int = SIZE) -> NDArray[np.uint8]:
    """Return images, (count, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def draw_photographs(folder: Path, count: int) -> pd.DataFrame:
    """Write drawn lesions as JPEGs of 600 x 450 pixels, 47 kB on average, and return their manifest."""
    diagnoses = list(PAINTERS)
    rows = []
    for number in range(count):
        pixels = draw_lesion(diagnoses[number % len(diagnoses)], 1, number, 1)[0]
        _, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        path = folder / f"ISIC_{number:07d}.jpg"
        path.write_bytes(jpeg.tobytes())
        rows.append((path.stem, str(path), hashlib.sha256(jpeg.tobytes()).hexdigest()))
    return pd.DataFrame(rows, columns=["image_id", "path", "sha256"])
