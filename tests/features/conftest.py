"""Keras, started before the modules of this folder import it, and drawn photographs."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.data.sources.lesions import PAINTERS, draw_lesion
from dermoscopy.runtime.keras_start import start_keras

start_keras(seed=0)


@pytest.fixture(scope="session")
def photographs() -> dict[str, NDArray[np.uint8]]:
    """A photograph, (450, 600, 3), of a lesion of each diagnosis."""
    return {dx: np.asarray(draw_lesion(dx, 1, number, 1)[0], np.uint8) for number, dx in enumerate(PAINTERS, start=1)}
