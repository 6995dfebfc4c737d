"""Which engine runs the backbone, and what identifies it."""

from collections.abc import Iterable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.engines.devices import driver_has_gpu, gpu_name
from dermoscopy.features.engines.keras_engine import KerasEngine
from dermoscopy.features.engines.openvino_engine import OpenVINOEngine
from dermoscopy.runtime.errors import ParamsError, PipelineError
from dermoscopy.runtime.keras_start import Backend
from dermoscopy.runtime.params import EngineName, Precision

# TensorFlow is always there; another backend was installed on purpose, so it is asked first.
BACKENDS: dict[Backend, str] = {
    "jax": 'pip install "jax[cuda13]", or jax for a CPU',
    "torch": "pip install torch",
    "tensorflow": "pip install tensorflow",
}


class Engine(Protocol):
    """A loaded backbone.

    Attributes:
        at_once: how many threads should call `compute` at the same time to keep the device busy.
    """

    at_once: int

    def compute(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        """Return the features, (count, dim), of `count` images, each (size, size, 3), RGB."""
        ...


def choose_engine(name: Literal["auto"] | EngineName) -> EngineName:
    """Return the engine that features.engine means.

    auto is the first installed backend of Keras that sees a GPU, where there is one, else OpenVINO.

    Raises:
        PipelineError: it is not installed.
    """
    if name == "auto":
        if not driver_has_gpu():  # or each backend would be imported, which takes seconds
            return "openvino"
        return next((backend for backend in BACKENDS if find_spec(backend) and gpu_name(backend)), "openvino")
    if name != "openvino" and find_spec(name) is None:
        raise PipelineError(f"features.engine={name}, but {name} is not installed: {BACKENDS[name]} (see docs/gpu.md)")
    return name


def keras_backend(engine: EngineName) -> Backend:
    """Return what Keras runs on beside an engine."""
    return "tensorflow" if engine == "openvino" else engine


def engine_identity(engine: EngineName, precision: Precision = "float32") -> str:
    """Return engine, versions, device and precision: on one machine, equal identities give equal bytes.

    Raises:
        ParamsError: the engine has no GPU for this precision.
    """
    packages = ("jax", "jaxlib", "keras") if engine == "jax" else (engine, "keras")
    made_by = [f"{package} {version(package)}" for package in packages]
    made_by.append(_gpu_for(engine, precision) or "CPU")
    return ", ".join(made_by if precision == "float32" else [*made_by, precision])


def load_engine(
    engine: EngineName, folder: Path, precision: Precision = "float32", threads: int | None = None
) -> Engine:
    """Return an engine with the backbone of a folder loaded.

    Args:
        engine: which.
        folder: of the backbone.
        precision: in which a GPU computes.
        threads: of the processor at most, where the engine can be told; None: all.

    Raises:
        BackboneError: the backbone is damaged or missing.
        ParamsError: the engine has no GPU for this precision.
        PipelineError: Keras runs on another backend in this process.
    """
    _gpu_for(engine, precision)
    return OpenVINOEngine(folder, threads) if engine == "openvino" else KerasEngine(folder, engine, precision, threads)


def _gpu_for(engine: EngineName, precision: Precision) -> str | None:
    """Return the name of an engine's GPU, or None; a ParamsError if a precision needs one that is not there."""
    gpu = None if engine == "openvino" else gpu_name(engine)
    if precision != "float32" and gpu is None:
        raise ParamsError(
            f"features.precision={precision} needs a GPU, and {engine} has none here: set features.precision=float32, "
            "or features.engine to one that sees a GPU"
        )
    return gpu
