"""What many tests need: real data, from the folder `shared` beside the checkout, and Keras."""

from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.sources.machine"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; a test that needs it is skipped where there is none."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"this test needs the real images, labels and weights of {folder}, and there is no such folder")
    return folder


@pytest.fixture(scope="session")
def isic(shared: Path) -> Path:
    """755 dermoscopic images in `images/`, and their labels in the ISIC challenge form."""
    return shared / "data/isic2018-test"


@pytest.fixture(scope="session")
def ham10000_metadata(shared: Path) -> Path:
    """The label table of HAM10000, whole."""
    return shared / "data/ham10000/HAM10000_metadata.csv"


@pytest.fixture(scope="session")
def mobilenet_weights(shared: Path) -> Path:
    """ImageNet weights of MobileNetV2 without its top."""
    return shared / "weights/mobilenet_v2_imagenet_notop.weights.h5"


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on TensorFlow, as the stages start it."""
    from stages.common.keras_runtime import start_keras

    return start_keras(seed=0)
