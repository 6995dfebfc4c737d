"""The head: what turns the features of an image into class probabilities."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.model.head_info import HeadInfo, no_head, read_head_info
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import HEAD, HEAD_INFO


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities, (..., classes), of logits, in their dtype."""
    # scipy.special, which has one, takes a fifth of a second to import
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Head:
    """Standardised features and a softmax layer; all arrays are float32.

    The features are standardised because they differ in scale from backbone to backbone by orders of magnitude. What
    stands behind the features of the backbone are the clinical numbers of the image, if there are any.

    Attributes:
        mean: (dim,), of the training features.
        deviation: (dim,), their standard deviation.
        kernel: (dim, classes), of the softmax layer.
        bias: (classes,).
    """

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def weights(self) -> NDArray[np.float32]:
        """Both steps as one: the logits are (features - mean) @ weights + bias."""
        return self.kernel / self.deviation[:, None]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return class probabilities, (..., classes), for features, (..., dim)."""
        return softmax((features - self.mean) @ self.weights + self.bias)

    def activation_maps(self, maps: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return, (rows, columns, classes), what each place adds to each logit, from feature maps (rows, columns, dim).

        Zero is what the average training image adds. The mean over all places, plus the bias and the `shift`, is the
        logit.
        """
        dim = maps.shape[-1]
        return np.asarray((maps - self.mean[:dim]).astype(np.float64) @ self.weights[:dim])

    def shift(self, numbers: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return, (images, classes), what clinical numbers, (images, numbers), add to each logit.

        Zero is what those of the average training image add.
        """
        dim = len(self.mean) - numbers.shape[-1]
        return np.asarray((numbers - self.mean[dim:]).astype(np.float64) @ self.weights[dim:])

    def save(self, path: Path) -> None:
        """Write the head, the same bytes for the same head."""
        with path.open("wb") as file:  # of a path NumPy would change the name
            np.savez(file, mean=self.mean, deviation=self.deviation, kernel=self.kernel, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return a head that `save` wrote; a DataError if it cannot be read."""
        try:
            with np.load(path, allow_pickle=False) as file:
                # an entry that is no array comes as bytes
                head = cls(**{name: np.asarray(file[name]) for name in file.files})
        except Exception as error:  # NumPy and zipfile raise what they run into: ValueError, BadZipFile, MemoryError
            raise no_head(path, error) from None
        arrays = head.mean, head.deviation, head.kernel, head.bias
        dim, classes = head.kernel.shape if head.kernel.ndim == 2 else (0, 0)
        if [array.shape for array in arrays] != [(dim,), (dim,), (dim, classes), (classes,)]:
            raise no_head(path, "its arrays do not fit together")
        if any(array.dtype != np.float32 for array in arrays):
            raise no_head(path, "its arrays are not float32")
        with np.errstate(all="ignore"):
            finite = all(np.isfinite(array).all() for array in (*arrays, head.weights))
        if not finite or not (head.deviation > 0).all():
            raise no_head(path, "its numbers are not finite, or a deviation is not above 0")
        return head


def require_same_backbone(head: Head, info: HeadInfo, backbone: BackboneInfo) -> None:
    """Raise a DataError if the head was trained on the features of another backbone."""
    numbers = len(info.clinical.names) if info.clinical else 0
    if info.backbone != backbone.fingerprint or len(head.mean) != backbone.dim + numbers:
        raise DataError(f"{HEAD} was trained on another backbone than the one that is there: run dvc repro")


def load_head(head: Path = HEAD, info: Path = HEAD_INFO) -> tuple[Head, HeadInfo]:
    """Return the trained head and its description.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    described = read_head_info(info)
    loaded = Head.load(head)
    if len(loaded.bias) != len(described.classes):
        raise no_head(head, f"it knows {len(loaded.bias)} classes, and {info} {len(described.classes)}")
    return loaded, described
