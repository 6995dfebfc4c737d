"""The head: what it computes, that it is stored as it was, and which files are refused."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.model.head import build_head, load_head, predict_probabilities, save_head
from dermoscopy.model.head_info import HeadInfo, require_same_backbone
from dermoscopy.runtime.errors import DataError
from tests.model.conftest import CLASSES, DIM
from tests.support.params_file import PARAMS

INFO = HeadInfo(
    classes=["bkl", "mel", "nv"],
    prior=[0.2, 0.2, 0.6],
    class_weights=[1, 1, 1],
    backbone="0" * 64,
    augmentation=PARAMS.augmentation,
)


@pytest.fixture
def head() -> Any:
    return build_head(np.linspace(2, 4, DIM), np.linspace(0.1, 2, DIM), dropout=0.5, classes=CLASSES)


@pytest.fixture
def stored(head: Any, tmp_path: Path) -> tuple[Path, Path]:
    """The files of the head and of its description."""
    save_head(head, tmp_path / "head.keras")
    (tmp_path / "head.json").write_text(INFO.model_dump_json(), encoding="utf-8")
    return tmp_path / "head.keras", tmp_path / "head.json"


def test_the_head_normalizes_then_gives_probabilities(features: NDArray[np.float32]) -> None:
    mean, variance = features.reshape(-1, DIM).mean(axis=0), features.reshape(-1, DIM).var(axis=0) + 0.1
    head = build_head(mean.astype(np.float64), variance.astype(np.float64), dropout=0.5, classes=CLASSES)
    kernel, bias = head.layers[-1].get_weights()
    logits = (features[:50, 0] - mean) / np.sqrt(variance) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(predict_probabilities(head, features[:50, 0]), expected, atol=1e-5)


def test_a_head_that_is_saved_and_loaded_in_safe_mode_gives_the_same_output(
    head: Any, stored: tuple[Path, Path], features: NDArray[np.float32]
) -> None:
    loaded, info = load_head(*stored)
    assert info == INFO
    before, after = (predict_probabilities(model, features[:50, 0]) for model in (head, loaded))
    assert np.array_equal(before, after)


def test_the_same_head_is_the_same_bytes_whenever_it_is_saved(head: Any, stored: tuple[Path, Path]) -> None:
    content = stored[0].read_bytes()
    time.sleep(1.1)  # what Keras writes by itself has the time in seconds
    again, _ = load_head(*stored)
    for model in (head, again):
        save_head(model, stored[0])
        assert stored[0].read_bytes() == content


@pytest.mark.parametrize("spoilt", ["head.keras", "head.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut short", "of something else"])
def test_a_head_that_cannot_be_read_says_what_makes_one(stored: tuple[Path, Path], spoilt: str, damage: str) -> None:
    path = stored[0].with_name(spoilt)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        changed = {
            "empty": b"",
            "cut short": content[: len(content) // 2],
            "of something else": b"PK\x03\x04 not a model",
        }
        path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=r"no trained head can be read from .*: run dvc repro train"):
        load_head(*stored)


def test_a_head_of_another_backbone_is_refused() -> None:
    same = BackboneInfo(name="MobileNetV2", image_size=64, dim=DIM, fingerprint=INFO.backbone, files={})
    require_same_backbone(INFO, same)
    with pytest.raises(DataError, match="was trained on another backbone"):
        require_same_backbone(INFO, same.model_copy(update={"fingerprint": "1" * 64}))
