"""The engines that the benchmarks compare do the same work.

That the pipeline's own two engines agree is tested in tests/features/test_engines.py.
"""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.backbones import first_features, greatest_difference
from benchmarks.engines import BATCH, batches, engines
from benchmarks.inputs import ONNX, export_onnx, noise_images
from benchmarks.workers import Worker
from tests.conftest import BACKBONE_SIZE

OTHERS = [name for name in engines() if name not in ("TensorFlow", "OpenVINO (ours)", "PyTorch (timm)")]


@pytest.fixture(scope="module")
def backbone(keras: Any, backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone in all forms that the installed engines run."""
    folder = tmp_path_factory.mktemp("forms") / "backbone"
    shutil.copytree(backbones["first"], folder)
    if "ONNX Runtime" in OTHERS:
        from dermoscopy.features.networks import load_backbone

        export_onnx(load_backbone(folder), folder / ONNX)
    return folder


@pytest.fixture(scope="module")
def reference(backbone: Path) -> NDArray[np.float32]:
    """TensorFlow's features."""
    return first_features(engines()["TensorFlow"](backbone), BACKBONE_SIZE)


@pytest.mark.parametrize(
    "engine", [name if name == "OpenVINO, defaults" else pytest.param(name, marks=pytest.mark.slow) for name in OTHERS]
)
def test_a_worker_returns_the_features_of_tensorflow(
    backbone: Path, reference: NDArray[np.float32], engine: str
) -> None:
    with closing(Worker(engines()[engine], backbone)) as worker:
        features = worker.call(first_features, BACKBONE_SIZE)
    assert features.shape == reference.shape == (BATCH, 1280)
    assert 0 < greatest_difference(features, reference) < 1e-4


def test_the_last_batch_is_filled_up() -> None:
    images = noise_images(BATCH + 1, size=4)
    first, last = batches(images)
    assert np.array_equal(first, images[:BATCH])
    assert np.array_equal(last[0], images[BATCH])
    assert not last[1:].any()
    assert len(last) == BATCH
