"""The head: what it computes, that Keras computes the same, that it is stored as it was, which files are refused."""

import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.model.head import Head, load_head, require_same_backbone
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.model.keras_head import from_keras, to_keras
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
def head() -> Head:
    random = np.random.default_rng(3)
    return Head(
        mean=np.linspace(2, 4, DIM, dtype=np.float32),
        deviation=np.linspace(0.3, 1.5, DIM, dtype=np.float32),
        kernel=(0.05 * random.normal(size=(DIM, CLASSES))).astype(np.float32),
        bias=random.normal(size=CLASSES).astype(np.float32),
    )


@pytest.fixture
def stored(head: Head, tmp_path: Path) -> tuple[Path, Path]:
    """The files of the head and of its description."""
    head.save(tmp_path / "head.npz")
    (tmp_path / "head.json").write_text(INFO.model_dump_json(), encoding="utf-8")
    return tmp_path / "head.npz", tmp_path / "head.json"


def test_the_head_standardises_then_gives_probabilities(head: Head, features: NDArray[np.float32]) -> None:
    features = features[:50]
    logits = (features - head.mean) / head.deviation @ head.kernel + head.bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    found = head.probabilities(features)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    assert np.ptp(found[..., 0]) > 0.1


def test_keras_gives_the_same_probabilities_and_the_head_comes_back(head: Head, features: NDArray[np.float32]) -> None:
    model = to_keras(head, dropout=0.5)
    assert np.allclose(model.predict(features[:50, 0], verbose=0), head.probabilities(features[:50, 0]), atol=1e-6)
    for name, array in asdict(from_keras(model)).items():
        assert array.dtype == np.float32
        assert np.allclose(array, getattr(head, name), rtol=1e-6), name


def test_a_head_that_is_saved_and_loaded_is_the_same(head: Head, stored: tuple[Path, Path]) -> None:
    loaded, info = load_head(*stored)
    assert info == INFO
    assert all(np.array_equal(array, getattr(loaded, name)) for name, array in asdict(head).items())


def test_the_same_head_is_the_same_bytes(head: Head, stored: tuple[Path, Path], tmp_path: Path) -> None:
    load_head(*stored)[0].save(tmp_path / "again.npz")
    with zipfile.ZipFile(stored[0]) as file:
        assert {member.date_time for member in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}  # whenever it is saved
    assert (tmp_path / "again.npz").read_bytes() == stored[0].read_bytes()


@pytest.mark.parametrize("spoilt", ["head.npz", "head.json"])
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


NOT_FINITE = "its numbers are not finite, or a deviation is not above 0"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bias": np.zeros(CLASSES + 1, np.float32)}, "its arrays do not fit together"),
        ({"kernel": np.zeros(DIM, np.float32)}, "its arrays do not fit together"),
        ({"mean": np.zeros((DIM, 1), np.float32)}, "its arrays do not fit together"),
        (
            {"kernel": np.full((DIM, CLASSES), np.nan, np.float32)},
            NOT_FINITE,
        ),
        ({"deviation": np.zeros(DIM, np.float32)}, NOT_FINITE),
        ({"deviation": np.full(DIM, 1e-40, np.float32)}, NOT_FINITE),
        ({"bias": np.array(["a", "b", "c"])}, "its arrays are not float32"),
        ({"other": np.zeros(3)}, "other"),
        ({"kernel": np.zeros((DIM, 2), np.float32), "bias": np.zeros(2, np.float32)}, "it knows 2 classes, and .* 3"),
    ],
    ids=[
        "bias",
        "flat kernel",
        "mean",
        "not a number",
        "no deviation",
        "next to none",
        "text",
        "another array",
        "fewer classes",
    ],
)
def test_arrays_that_are_no_head_are_refused(
    head: Head, stored: tuple[Path, Path], changes: dict[str, Any], reason: str
) -> None:
    np.savez(stored[0], **asdict(head) | changes)
    with pytest.raises(DataError, match=rf"no trained head can be read from .*head.npz \(.*{reason}"):
        load_head(*stored)


def test_a_member_that_is_no_array_is_refused(stored: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(stored[0], "w") as file:
        for name in ("mean", "deviation", "kernel", "bias"):
            file.writestr(name, b"abc")
    with pytest.raises(DataError, match=r"no trained head can be read from .* fit together"):
        load_head(*stored)


def test_a_head_of_another_backbone_is_refused(head: Head) -> None:
    same = BackboneInfo(name="MobileNetV2", image_size=64, dim=DIM, fingerprint=INFO.backbone, files={})
    require_same_backbone(head, INFO, same)
    for other in ({"fingerprint": "1" * 64}, {"dim": DIM + 1}):
        with pytest.raises(DataError, match="was trained on another backbone"):
            require_same_backbone(head, INFO, same.model_copy(update=other))
