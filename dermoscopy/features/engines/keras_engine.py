"""Keras on TensorFlow, JAX or PyTorch: the engine where there is a GPU."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.engines.devices import gpu_name, tasks_at_once
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.keras_start import Backend, start_keras
from dermoscopy.runtime.params import Precision

# Images, (batch, size, size, 3), to features, (batch, dim), which the device may still be computing.
Infer = Callable[[NDArray[np.uint8]], Any]


class KerasEngine:
    """Keras on one backend, on its GPU where it sees one; batches have one fixed size, the last one is filled up.

    Bytes travel to the device, which makes floats of them, and a batch is sent before the features of the one before it
    are fetched.
    """

    CPU_BATCH = 32
    GPU_PIXELS = 128 * 224 * 224  # of a batch of large images
    GPU_BATCH = 128  # of small ones

    def __init__(
        self, folder: Path, backend: Backend, precision: Precision = "float32", threads: int | None = None
    ) -> None:
        """Load the backbone of a folder; `threads` of the processor at most, of which JAX cannot be told."""
        start_keras(seed=0, backend=backend, tf32=precision == "tf32")
        if threads is not None:
            _use_threads(backend, threads)
        from dermoscopy.features.networks import load_backbone, use_bfloat16

        model = load_backbone(folder)
        if precision == "bfloat16":
            use_bfloat16(model)
        self._shape = model.output_shape[1:]
        self.batch_shape = (self.CPU_BATCH, *model.input_shape[1:])
        self.at_once = tasks_at_once(backend)
        if gpu_name(backend) is not None:
            size = model.input_shape[1]
            self.batch_shape = (max(1, min(self.GPU_BATCH, self.GPU_PIXELS // size**2)), *model.input_shape[1:])
        compilers = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
        with _faults_of_memory():
            self.infer: Infer = compilers[backend](model, self.batch_shape)

    def compute(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        """Return the features, (count, dim), of `count` images, each (size, size, 3), RGB; of a trunk its maps.

        Raises:
            BackboneError: the device has too little memory.
        """
        from keras.ops import convert_to_numpy

        features = np.empty((count, *self._shape), np.float32)
        fetched = 0
        sent: deque[Any] = deque()
        with _faults_of_memory():
            for batch in self._batches(images):
                sent.append(self.infer(batch))
                if len(sent) > 1:
                    fetched += _copy(convert_to_numpy(sent.popleft()), features[fetched:])
            for result in sent:
                fetched += _copy(convert_to_numpy(result), features[fetched:])
        return features

    def _batches(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Yield batches, each in memory of its own: the device may still read the one before."""
        images = iter(images)
        while chosen := list(islice(images, self.batch_shape[0])):
            batch = np.zeros(self.batch_shape, np.uint8)
            batch[: len(chosen)] = chosen
            yield batch


@contextmanager
def _faults_of_memory() -> Iterator[None]:
    """Raise a BackboneError where a device has too little memory."""
    try:
        yield
    except Exception as error:  # JaxRuntimeError, ResourceExhaustedError, torch.OutOfMemoryError: one by backend
        if any(
            words in f"{type(error).__name__} {error}" for words in ("RESOURCE_EXHAUSTED", "ResourceExh", "OutOfMem")
        ):
            raise BackboneError(
                "the GPU has too little free memory for this backbone: end what else runs there, or set "
                "features.engine=openvino, which uses the processor"
            ) from None
        raise


def _copy(batch: NDArray[np.float32], rows: NDArray[np.float32]) -> int:
    """Fill rows with the features of a batch, or with its first ones where they are fewer, and return how many."""
    count = min(len(batch), len(rows))
    rows[:count] = batch[:count]
    return count


def _tensorflow(model: Any, shape: tuple[int, ...]) -> Infer:
    """Return the network as a graph, traced."""
    import tensorflow as tf

    infer = tf.function(lambda batch: model([tf.cast(batch, tf.float32)], training=False))
    return infer.get_concrete_function(tf.TensorSpec(shape, tf.uint8))


def _jax(model: Any, shape: tuple[int, ...]) -> Infer:
    """Return the network, compiled; the weights are arguments, because XLA takes minutes with millions of constants."""
    import jax

    def infer(trainable: list[Any], others: list[Any], batch: Any) -> Any:
        return model.stateless_call(trainable, others, [batch.astype("float32")], training=False)[0]

    weights = [
        [variable.value for variable in variables]
        for variables in (model.trainable_variables, model.non_trainable_variables)
    ]
    compiled = jax.jit(infer).lower(*weights, jax.ShapeDtypeStruct(shape, "uint8")).compile()
    return lambda batch: compiled(*weights, batch)


def _torch(model: Any, shape: tuple[int, ...]) -> Infer:
    """Return the network, run layer by layer."""
    import torch

    device = model.variables[0].value.device

    def infer(batch: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return model([torch.from_numpy(batch).to(device).float()], training=False)

    return infer


def _use_threads(backend: Backend, threads: int) -> None:
    """Let a backend use so many threads of the processor."""
    if backend == "torch":
        import torch

        torch.set_num_threads(threads)
    elif backend == "tensorflow":
        import tensorflow as tf

        with suppress(RuntimeError):  # it has computed something, and takes no other number any more
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
