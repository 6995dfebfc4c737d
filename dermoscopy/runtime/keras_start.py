"""Start Keras on TensorFlow: quietly, and so that the same seed gives the same bytes."""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_one_at_a_time = threading.Lock()  # standard error is the whole process's


def start_keras(seed: int) -> ModuleType:
    """Import TensorFlow and return keras, with every generator seeded and deterministic operations only.

    The import takes seconds, and a GPU's memory: call it only where the work needs TensorFlow.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # an error that matters comes as an exception
    with _one_at_a_time, _silent_stderr(), _without_collection():
        import keras
        import tensorflow as tf
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(False)  # on GPUs it costs three digits
    return keras


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
def _silent_stderr() -> Iterator[None]:
    """Hide what native code prints: TensorFlow's banner ignores every log level until it is loaded."""
    sys.stderr.flush()
    original = os.dup(2)
    with open(os.devnull, "w") as devnull:  # noqa: PTH123 - a descriptor is needed, not a path
        os.dup2(devnull.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)
