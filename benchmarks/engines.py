"""Inference engines, each set up as its experts would for a few cores: float32, weights loaded once.

Each function loads a backbone from its folder and returns a function from images, (n, size, size, 3), uint8, to
features, (n, dim). All but timm run the very same network.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs import ONNX
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.engines.keras_engine import KerasEngine
from dermoscopy.features.engines.openvino_engine import OpenVINOEngine
from dermoscopy.runtime.keras_start import Backend, start_keras

Infer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

BATCH = 8
TIMM_NAMES = {
    "InceptionResNetV2": "inception_resnet_v2",
    "DenseNet121": "densenet121",
    "ConvNeXtSmall": "convnext_small",
    "MobileNetV2": "mobilenetv2_100",
}


class SmallBatches(KerasEngine):
    """The features stage's engine, with smaller batches, which are as fast on a CPU."""

    CPU_BATCH = BATCH


def load_keras(folder: Path, backend: Backend) -> Infer:
    """Keras on one of its backends."""
    engine = SmallBatches(folder, backend)
    return lambda images: engine.compute(images, len(images))


def load_tensorflow(folder: Path) -> Infer:
    """Keras on TensorFlow."""
    return load_keras(folder, "tensorflow")


def load_tensorflow_xla(folder: Path) -> Infer:
    """TensorFlow, with the whole network compiled by XLA."""
    start_keras(seed=0)
    import tensorflow as tf

    from dermoscopy.features.networks import load_backbone

    model = load_backbone(folder)
    infer = tf.function(lambda batch: model([tf.cast(batch, tf.float32)], training=False), jit_compile=True)
    return lambda images: np.concatenate([infer(batch).numpy() for batch in batches(images)])[: len(images)]


def load_openvino(folder: Path) -> Infer:
    """The features stage's engine: throughput hint, asynchronous requests."""
    engine = OpenVINOEngine(folder)
    return lambda images: engine.compute(images, len(images))


def load_openvino_default(folder: Path) -> Infer:
    """OpenVINO with its default settings, which are for latency: one image after the other, each on all cores."""
    import openvino

    model = openvino.Core().compile_model(folder / "backbone.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: np.concatenate([model(image[None].astype(np.float32))[0] for image in images])


def load_onnxruntime(folder: Path) -> Infer:
    """ONNX Runtime, one image after the other, each on all cores."""
    run = _session(folder, cores())
    return lambda images: np.concatenate([run(image) for image in images])


def load_onnxruntime_parallel(folder: Path) -> Infer:
    """ONNX Runtime, an image on each core."""
    run = _session(folder, 1)
    pool = ThreadPoolExecutor(cores())
    return lambda images: np.concatenate(list(pool.map(run, images)))


def _session(folder: Path, threads: int) -> Infer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / ONNX, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image[None].astype(np.float32)})[0]


def load_pytorch(folder: Path) -> Infer:
    """PyTorch: timm's network of the same architecture, with weights of its own and without preprocessing."""
    import timm
    import torch

    torch.set_num_threads(cores())
    model = timm.create_model(TIMM_NAMES[read_backbone_info(folder).name], pretrained=False, num_classes=0)
    model = model.eval().to(memory_format=torch.channels_last)

    def infer(batch: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return model(torch.from_numpy(batch).permute(0, 3, 1, 2).float()).numpy()

    return lambda images: np.concatenate([infer(batch) for batch in batches(images)])[: len(images)]


def engines() -> dict[str, Callable[[Path], Infer]]:
    """Return the engines whose library is installed, by the name that they have in tables; TensorFlow first."""
    found: dict[str, Callable[[Path], Infer]] = {
        "TensorFlow": load_tensorflow,
        "TensorFlow, XLA": load_tensorflow_xla,
        "OpenVINO (ours)": load_openvino,
        "OpenVINO, defaults": load_openvino_default,
    }
    if find_spec("jax") is not None:
        found["Keras on JAX"] = partial(load_keras, backend="jax")
    if find_spec("torch") is not None:
        found["Keras on PyTorch"] = partial(load_keras, backend="torch")
    if find_spec("onnxruntime") is not None and find_spec("tf2onnx") is not None:
        found |= {"ONNX Runtime": load_onnxruntime, "ONNX Runtime, an image a core": load_onnxruntime_parallel}
    if find_spec("timm") is not None and find_spec("torch") is not None:
        found |= {"PyTorch (timm)": load_pytorch}
    return found


def batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield batches of one size; the last is filled up with zeros."""
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        yield np.concatenate([batch, np.zeros((BATCH - len(batch), *batch.shape[1:]), np.uint8)])


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
