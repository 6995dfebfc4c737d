"""The one place where Keras starts: on TensorFlow, with our settings, quietly, whatever the user has configured.

Modules that import Keras at their top say so, and are imported after `start_keras`.
"""

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dermoscopy.runtime.errors import PipelineError

# Variables of a user's environment that would change results or end in a traceback.
_OVERRIDDEN = ("TF_USE_LEGACY_KERAS", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")

_one_at_a_time = threading.Lock()  # standard error belongs to the whole process


def start_keras(seed: int) -> None:
    """Import Keras and TensorFlow, with every generator seeded and deterministic operations only.

    `import keras` is ordinary from then on. keras.json and Keras' environment variables have no effect.
    The import takes seconds, and a GPU's memory: call it only where the work needs them.

    Args:
        seed: of Keras', NumPy's and Python's global generators.

    Raises:
        PipelineError: Keras refuses keras.json.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"  # read once, when Keras is imported
    os.environ["KERAS_NNX_ENABLED"] = "false"  # unset, keras.json would decide
    for name in _OVERRIDDEN:
        os.environ.pop(name, None)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # an error that matters comes as an exception
    with _one_at_a_time, _silent_stderr(), _without_collection():
        try:
            import keras
        except (ValueError, TypeError, AttributeError) as error:  # the last two where it is JSON of another form
            raise PipelineError(f"Keras refuses its keras.json ({error}): fix or delete that file") from None
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    tf.config.experimental.enable_tensor_float_32_execution(False)  # on GPUs it costs three digits


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
