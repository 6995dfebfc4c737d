"""The benchmarks of engines: that they compare the same work, and count it right."""

import os
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.backbones import first_features, greatest_difference
from benchmarks.engines import BATCH, batches, engines
from benchmarks.features_stage import VIEWS, Stage, tabulate
from benchmarks.inputs import count_multiply_adds, draw_photographs, noise_images, write_forms
from benchmarks.workers import OPENBLAS_SETTINGS, Worker
from dermoscopy.data.images import read_image
from dermoscopy.features.backbones import build_backbone

SIZE = 96


@pytest.fixture(scope="module")
def backbone(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone in all its forms."""
    folder = tmp_path_factory.mktemp("backbone")
    write_forms(build_backbone("MobileNetV2", None, SIZE), "MobileNetV2", folder)
    return folder


@pytest.fixture(scope="module")
def reference(backbone: Path) -> NDArray[np.float32]:
    """TensorFlow's features."""
    return first_features(engines()["TensorFlow"](backbone), SIZE)


@pytest.fixture
def worker() -> Iterator[Worker[int]]:
    with closing(Worker(os.getpid)) as worker:
        yield worker


def add(loaded: int, more: int) -> int:
    return loaded + more


def setting(loaded: int, name: str) -> str | None:
    return os.environ.get(name)


def test_multiply_adds_are_those_counted_by_hand(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),  # 8 x 8 places, 3 x 3 x 3 to 4
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),  # 4 x 4 places, 3 x 3 each of 4
            layers.Conv2D(8, 3, groups=2),  # 2 x 2 places, 3 x 3 x 2 to 8
            layers.Dense(5),  # 2 x 2 places, 8 to 5
            layers.Flatten(),
            layers.Dense(7),  # 20 to 7
        ]
    )
    by_hand = 64 * 27 * 4 + 16 * 9 * 4 + 4 * 18 * 8 + 4 * 8 * 5 + 20 * 7
    assert count_multiply_adds(model) == by_hand


def test_multiply_adds_of_mobilenet_are_those_of_its_paper(keras: Any) -> None:
    network = build_backbone("MobileNetV2", None, 224)
    assert count_multiply_adds(network) == pytest.approx(300e6, rel=0.01)


@pytest.mark.parametrize(
    "engine",
    [
        "OpenVINO (ours)",
        "OpenVINO, defaults",
        pytest.param(
            "ONNX Runtime",
            marks=pytest.mark.skipif(
                find_spec("onnxruntime") is None, reason="ONNX Runtime is for benchmarks and not installed"
            ),
        ),
    ],
)
def test_a_worker_returns_the_features_of_tensorflow(
    backbone: Path, reference: NDArray[np.float32], engine: str
) -> None:
    with closing(Worker(engines()[engine], backbone)) as worker:
        features = worker.call(first_features, SIZE)
    assert features.shape == reference.shape == (BATCH, 1280)
    assert 0 < greatest_difference(features, reference) < 1e-4


def test_a_worker_is_a_process_of_its_own(worker: Worker[int]) -> None:
    pid = worker.call(add, 0)
    assert pid != os.getpid()
    assert worker.call(add, 1) == pid + 1


def test_a_worker_has_no_settings_that_slow_numpy_down(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPENBLAS_SETTINGS:
        monkeypatch.setenv(name, "Haswell")
    with closing(Worker(os.getpid)) as worker:
        assert [worker.call(setting, name) for name in OPENBLAS_SETTINGS] == [None, None]
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"


def test_the_last_batch_is_filled_up() -> None:
    images = noise_images(BATCH + 1, size=4)
    first, last = batches(images)
    assert np.array_equal(first, images[:BATCH])
    assert np.array_equal(last[0], images[BATCH])
    assert not last[1:].any()
    assert len(last) == BATCH


def test_the_stage_and_the_bare_engine_give_the_same_features(backbone: Path, tmp_path: Path) -> None:
    photographs = draw_photographs(tmp_path, 3)
    assert read_image(tmp_path / "ISIC_0000000.jpg").shape == (450, 600, 3)
    stage = Stage(backbone, photographs, tmp_path / "stores")
    expected = stage.bare().reshape(3, VIEWS, -1)
    for turn in range(2):
        for view, store in enumerate(stage.stage()):
            for numbers, features in store.read():
                assert np.array_equal(features, expected[numbers, view]), turn


def test_a_ratio_is_of_turns_side_by_side() -> None:
    rows = tabulate("a", {"stage": [1.0, 10.0, 9.0], "bare engine": [2.0, 10.0, 10.0]})
    assert [row["stage's speed, times this"] for row in rows] == [1.0, 0.9]
