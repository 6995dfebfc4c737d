"""Inference engines: run the frozen backbone over prepared images."""

import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from stages.common.backbones import BACKBONE, load_backbone, read_backbone_info, require_intact

EngineName = Literal["openvino", "tensorflow"]


class Engine(Protocol):
    """A loaded backbone."""

    def run(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        """Return the features, (count, dim), of `count` images, each (size, size, 3), RGB."""
        ...


class OpenVINOEngine:
    """OpenVINO on the CPU: one image a request, so that a result never depends on its neighbours in a batch."""

    def __init__(self, folder: Path = BACKBONE) -> None:
        import openvino

        require_intact(folder)
        self._dim = read_backbone_info(folder).dim
        core = openvino.Core()
        prepared = openvino.preprocess.PrePostProcessor(core.read_model(folder / "backbone.xml"))
        # bytes travel to the plugin, which makes floats of them
        prepared.input().tensor().set_element_type(openvino.Type.u8)
        # without the hint, processors that have it compute in bfloat16
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        self._queue = openvino.AsyncInferQueue(core.compile_model(prepared.build(), "CPU", settings))

    def run(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        features = np.empty((count, self._dim), np.float32)

        def store(request: Any, row: int) -> None:
            features[row] = request.get_output_tensor().data[0]

        self._queue.set_callback(store)
        try:
            for row, image in enumerate(images):
                self._queue.start_async({0: image[None]}, row)
        finally:
            self._queue.wait_all()  # also when `images` fails: no request may outlive this call
        return features


class TensorFlowEngine:
    """TensorFlow, on a GPU where it finds one; batches have one fixed size, the last one is filled up."""

    BATCH = 32

    def __init__(self, folder: Path = BACKBONE) -> None:
        from stages.common.keras_runtime import start_keras

        keras = start_keras(seed=0)
        import tensorflow as tf

        self._model = load_backbone(keras, folder)
        self._infer = tf.function(lambda batch: self._model([batch], training=False))

    def run(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        features = np.empty((count, self._model.output_shape[-1]), np.float32)
        batch = np.zeros((self.BATCH, *self._model.input_shape[1:]), np.float32)
        for row, image in enumerate(images):
            batch[row % self.BATCH] = image
            if row % self.BATCH == self.BATCH - 1 or row == count - 1:
                start = row - row % self.BATCH
                features[start : row + 1] = self._infer(batch)[: row + 1 - start]
        return features


def choose_engine(name: Literal["auto"] | EngineName) -> EngineName:
    """Return the engine that features.engine means; auto is TensorFlow where it sees a GPU, else OpenVINO."""
    if name != "auto":
        return name
    # TensorFlow takes seconds to import, so it is asked only where there is a GPU's driver
    if shutil.which("nvidia-smi") is None:
        return "openvino"
    from stages.common.keras_runtime import start_keras

    start_keras(seed=0)
    import tensorflow as tf

    return "tensorflow" if tf.config.list_physical_devices("GPU") else "openvino"


def engine_identity(engine: EngineName) -> str:
    """Return library and version: on one machine, equal identities give equal bytes."""
    return f"{engine} {version(engine)}"


def load_engine(engine: EngineName, folder: Path = BACKBONE) -> Engine:
    """Return an engine with the backbone of a folder loaded."""
    return OpenVINOEngine(folder) if engine == "openvino" else TensorFlowEngine(folder)
