"""Which engine runs the backbone, and what identifies it."""

import shutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.engines.openvino_engine import OpenVINOEngine
from dermoscopy.features.engines.tensorflow_engine import TensorFlowEngine
from dermoscopy.runtime.keras_start import start_keras

EngineName = Literal["openvino", "tensorflow"]


class Engine(Protocol):
    """A loaded backbone."""

    def compute(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        """Return the features, (count, dim), of `count` images, each (size, size, 3), RGB."""
        ...


def choose_engine(name: Literal["auto"] | EngineName) -> EngineName:
    """Return the engine that features.engine means; auto is TensorFlow where it sees a GPU, else OpenVINO."""
    if name != "auto":
        return name
    return "tensorflow" if gpu_name() else "openvino"


def engine_identity(engine: EngineName) -> str:
    """Return engine, version, Keras' version and device: on one machine, equal identities give equal bytes."""
    device = (gpu_name() if engine == "tensorflow" else None) or "CPU"
    return f"{engine} {version(engine)}, keras {version('keras')}, {device}"


@cache
def gpu_name() -> str | None:
    """Return the name of the first GPU that TensorFlow sees, or None."""
    # TensorFlow takes seconds to import, so it is asked only where there is a GPU's driver
    if shutil.which("nvidia-smi") is None:
        return None
    start_keras(seed=0)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else None


def load_engine(engine: EngineName, folder: Path) -> Engine:
    """Return an engine with the backbone of a folder loaded."""
    return OpenVINOEngine(folder) if engine == "openvino" else TensorFlowEngine(folder)
