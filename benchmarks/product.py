"""What the machine can do at most: a large product of float32 matrices, by the libraries that are best at it."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from dermoscopy.runtime.keras_start import start_keras

ORDER = 4096
OPERATIONS = 2 * ORDER**3  # a multiplication and an addition each: about a second on two cores

Product = Callable[[], object]


def numpy_product() -> Product:
    """Return the product by NumPy."""
    matrix = np.random.default_rng(0).random((ORDER, ORDER), np.float32)
    return lambda: matrix @ matrix


def tensorflow_product() -> Product:
    """Return the product by TensorFlow."""
    start_keras(seed=0)
    import tensorflow as tf

    matrix = tf.random.uniform((ORDER, ORDER))
    return lambda: tf.matmul(matrix, matrix).numpy()


def torch_product() -> Product:
    """Return the product by PyTorch."""
    import torch

    matrix = torch.rand(ORDER, ORDER)
    return lambda: matrix @ matrix


def products() -> dict[str, Callable[[], Product]]:
    """Return what loads the product of each library that is installed, by the library's name."""
    found = {"NumPy": numpy_product, "TensorFlow": tensorflow_product}
    return found | ({"PyTorch": torch_product} if find_spec("torch") is not None else {})


def multiply(product: Product) -> None:
    """Compute a product once."""
    product()
