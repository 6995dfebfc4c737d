"""Real images, labels and weights for the benchmarks, where a folder `shared` is beside the checkout."""

from typing import Any

from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.workspace import PROJECT

SHARED = PROJECT.parent / "shared"
HAM10000 = SHARED / "data/ham10000"  # its label table, and 10,015 images of 224 x 224 pixels in images/
ISIC2018 = SHARED / "data/isic2018-test"  # 755 images of 600 x 450 pixels with their label table
WEIGHTS = SHARED / "weights/mobilenet_v2_imagenet_notop.weights.h5"  # of ImageNet, for MobileNetV2 without its top

# Params by section and key.
IMAGES_IN_PLACE: dict[str, Any] = {"source": "directory", "directory": str(HAM10000)}
MOBILENET: dict[str, Any] = {"name": "MobileNetV2", "weights": str(WEIGHTS)}


def has_real_data() -> bool:
    """Return whether the images and the weights are there."""
    return HAM10000.is_dir() and WEIGHTS.is_file()


def require_real_data() -> None:
    """Raise a PipelineError where the images or the weights are missing."""
    if missing := [str(path) for path in (HAM10000, WEIGHTS) if not path.exists()]:
        raise PipelineError(f"this needs the real images and weights, and {' and '.join(missing)} is missing")
