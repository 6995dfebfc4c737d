"""The one place where Keras starts: one backend a process, our settings, quietly, whatever the user has configured.

Modules that import Keras at their top say so, and are imported after `start_keras`.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Literal

from dermoscopy.runtime.errors import PipelineError

Backend = Literal["tensorflow", "jax", "torch"]

# Variables of a user's environment that would change results or end in a traceback.
_OVERRIDDEN = (
    *("TF_USE_LEGACY_KERAS", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "KERAS_TORCH_DEVICE"),
    *("JAX_ENABLE_X64", "JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE", "NVIDIA_TF32_OVERRIDE"),
)
# A GPU's memory as it is needed, instead of most of it at the start: another process may work there too.
_AS_NEEDED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
# Without it, XLA measures which algorithm is the fastest, and takes another one in the next run.
_DETERMINISTIC_XLA = "--xla_gpu_deterministic_ops=true"

_one_at_a_time = threading.Lock()  # standard error belongs to the whole process


def start_keras(seed: int, backend: Backend = "tensorflow", tf32: bool = False) -> None:
    """Import Keras and its backend, with every generator seeded and deterministic operations only.

    `import keras` is ordinary from then on. keras.json and Keras' environment variables have no effect. This imports no
    other backend. It takes seconds, and a GPU's memory: call it only where the work needs them.

    Args:
        seed: of Keras', NumPy's and Python's global generators.
        backend: what Keras runs on, until the process ends.
        tf32: whether a GPU may round what it multiplies to TF32, which costs three digits, until the next call.

    Raises:
        PipelineError: Keras refuses keras.json, the backend is broken, or Keras runs on another one already.
    """
    _import("keras", backend)
    import keras

    if keras.config.backend() != backend:
        raise PipelineError(
            f"Keras runs on {keras.config.backend()} in this process and cannot change to {backend}: set "
            f"features.engine={keras.config.backend()}, or run a command of its own for each"
        )
    if backend != "tensorflow":
        from keras.src.utils.module_utils import tensorflow

        # Keras imports it wherever it is installed, if only to seed it, which takes seconds and memory; no setting of
        # Keras' keeps it from that
        tensorflow._available = False
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.utils.set_random_seed(seed)
    if backend == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
    elif backend == "jax":
        import jax

        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "float32")
    else:
        import torch

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.utils.deterministic.fill_uninitialized_memory = False  # Keras writes all that it allocates
        torch.backends.fp32_precision = "tf32" if tf32 else "ieee"


def import_backend(backend: Backend) -> None:
    """Import a backend without Keras, with what must stand in the environment before it uses a GPU.

    Raises:
        PipelineError: it is broken; or TensorFlow, which reads keras.json, refuses that.
    """
    _import(backend, backend)


def _import(module: str, backend: Backend) -> None:
    os.environ["KERAS_BACKEND"] = backend  # read once, when Keras is imported, and TensorFlow may do that
    os.environ["KERAS_NNX_ENABLED"] = "false"  # unset, keras.json would decide
    for name in _OVERRIDDEN:
        os.environ.pop(name, None)
    for name, value in {"TF_CPP_MIN_LOG_LEVEL": "3", **_AS_NEEDED}.items():  # an error that matters is an exception
        os.environ.setdefault(name, value)
    if backend == "jax" and _DETERMINISTIC_XLA not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DETERMINISTIC_XLA}".strip()
    if backend == "torch":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses to be deterministic
    if module in sys.modules:
        return
    hidden = {"jax": None} if backend == "tensorflow" and "jax" not in sys.modules else {}
    with quiet_stderr(), _without_collection():
        sys.modules.update(hidden)  # type: ignore[arg-type] # None: TensorFlow's import of it fails, which it ignores
        try:
            import_module(module)
        except (ImportError, OSError) as error:
            raise PipelineError(f"{module} cannot be imported ({error}): install it again, see docs/gpu.md") from None
        except (ValueError, TypeError, AttributeError, AssertionError) as error:  # the middle two: JSON of another form
            if module not in ("keras", "tensorflow"):
                raise PipelineError(f"{module} is broken ({error}): install it again, see docs/gpu.md") from None
            reason = str(error) or "one of its values is unknown"
            raise PipelineError(f"Keras refuses its keras.json ({reason}): fix or delete that file") from None
        finally:
            for name in hidden:
                del sys.modules[name]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Collect no garbage among what is imported, neither now nor later: it takes a second and finds next to nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hide what native code prints: TensorFlow's banner ignores every log level until it is loaded."""
    with _one_at_a_time:
        sys.stderr.flush()
        original = os.dup(2)
        with open(os.devnull, "w") as devnull:  # noqa: PTH123 - a descriptor is needed, not a path
            os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
