"""What the machine can do at most: a large product of float32 matrices, by the libraries that do it best."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

# 4096 to the third, two operations each: a second on two cores.
ORDER = 4096
OPERATIONS = 2 * ORDER**3

Product = Callable[[], object]


def numpy_product() -> Product:
    """Return the product by this library."""
    matrix = np.random.default_rng(0).random((ORDER, ORDER), np.float32)
    return lambda: matrix @ matrix


def tensorflow_product() -> Product:
    """Return the product by this library."""
    from dermoscopy.runtime.keras_start import start_keras

    start_keras(seed=0)
    import tensorflow as tf

    matrix = tf.random.uniform((ORDER, ORDER))
    return lambda: tf.matmul(matrix, matrix).numpy()


def torch_product() -> Product:
    """Return the product by this library."""
    import torch

    matrix = torch.rand(ORDER, ORDER)
    return lambda: matrix @ matrix


def products() -> dict[str, Callable[[], Product]]:
    """Return the libraries, by name, that are installed."""
    found = {"NumPy": numpy_product, "TensorFlow": tensorflow_product}
    return found | ({"PyTorch": torch_product} if find_spec("torch") is not None else {})


def multiply(product: Product) -> None:
    """Compute it once."""
    product()
