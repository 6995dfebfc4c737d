"""Which GPU the machine has, and which backend of Keras sees it."""

import ctypes
from functools import cache

from dermoscopy.runtime.keras_start import Backend, import_backend, quiet_stderr
from dermoscopy.runtime.params import EngineName

AT_ONCE = 2  # tasks that keep a GPU busy: one is computed while the other one begins or ends


@cache
def driver_has_gpu() -> bool:
    """Return whether a driver has a GPU for this process, which takes milliseconds where there is none.

    NVIDIA's driver is asked itself, also under WSL: CUDA_VISIBLE_DEVICES may hide its GPUs. Those of AMD and Apple are
    not covered.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@cache
def gpu_name(backend: Backend) -> str | None:
    """Return the name of the first GPU that a backend sees, or None; it is imported where there is a GPU at all.

    Keras is not: it must not start on a backend that sees none.

    Raises:
        PipelineError: the backend is broken.
    """
    if not driver_has_gpu():
        return None
    import_backend(backend)
    with quiet_stderr():  # each says on stderr what it has found
        return {"tensorflow": _tensorflow_gpu, "jax": _jax_gpu, "torch": _torch_gpu}[backend]()


def tasks_at_once(engine: EngineName) -> int:
    """Return how many tasks keep the device of an engine busy, each in a thread of its own."""
    return 1 if engine == "openvino" or gpu_name(engine) is None else AT_ONCE


def _tensorflow_gpu() -> str | None:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")) if gpus else None


def _jax_gpu() -> str | None:
    import jax

    try:
        return str(jax.devices("gpu")[0].device_kind)
    except RuntimeError:  # there is none
        return None


def _torch_gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
