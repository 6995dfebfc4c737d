"""Which engine runs the backbone, and what identifies it."""

import sys
from collections.abc import Iterable
from functools import cache
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

# In the order in which they are asked: TensorFlow is always there, another one was installed on purpose.
BACKENDS: tuple[Backend, ...] = ("jax", "torch", "tensorflow")


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
        return _fastest()
    if name != "openvino" and find_spec(name) is None:
        raise PipelineError(f"features.engine={name}, but {name} is not installed: docs/gpu.md says how")
    return name


@cache
def _fastest() -> EngineName:
    """Return the first backend that sees a GPU, or OpenVINO; where a GPU stays idle, a line says so, once."""
    if not driver_has_gpu():  # or each backend would be imported, which takes seconds
        return "openvino"
    for backend in filter(find_spec, BACKENDS):
        try:
            if gpu_name(backend):
                return backend
        except PipelineError as error:
            print(f"warning: {error}", file=sys.stderr)
    print("warning: this machine has a GPU that no backend of Keras sees: see docs/gpu.md", file=sys.stderr)
    return "openvino"


def keras_backend(engine: EngineName) -> Backend:
    """Return what Keras runs on beside an engine."""
    return "tensorflow" if engine == "openvino" else engine


def engine_identity(engine: EngineName, precision: Precision = "float32") -> str:
    """Return engine, versions, device and precision: on one machine, equal identities give equal bytes.

    On a GPU they do so with the same driver and the same CUDA, whose versions are not in it.

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
    gpu = _gpu_for(engine, precision)
    if engine != "openvino" and gpu is None and driver_has_gpu():
        print(f"warning: {engine} does not see the GPU of this machine: see docs/gpu.md", file=sys.stderr)
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
