"""A backbone as files: its weights file, its description, and damage to it."""

import shutil
from pathlib import Path

import pytest

from dermoscopy.features.backbones import KERAS_FILES, OPENVINO_FILES, find_weights, read_backbone_info
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.params import EngineName


def test_weights_are_imagenet_random_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.weights.h5").touch()
    assert find_weights("imagenet") == "imagenet"
    assert find_weights("random") is None
    assert find_weights("my.weights.h5") == str(tmp_path / "my.weights.h5")


def test_a_weights_file_that_is_missing_is_refused_before_keras_starts(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.h5", tmp_path):
        with pytest.raises(BackboneError, match=f"must be imagenet, random or a file, and {path} is not a file"):
            find_weights(str(path))


@pytest.mark.parametrize(
    ("engine", "name"),
    [*(("openvino", name) for name in OPENVINO_FILES), *(("tensorflow", name) for name in KERAS_FILES)],
)
@pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "missing"])
def test_a_backbone_with_a_damaged_file_is_refused_by_who_reads_it(
    backbones: dict[str, Path], tmp_path: Path, name: str, damage: str, engine: EngineName
) -> None:
    folder = shutil.copytree(backbones["network"], tmp_path / "backbone")
    path = folder / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 1
    if damage != "missing":
        path.write_bytes(content[: len(content) - (damage == "cut short")])
    with pytest.raises(BackboneError, match=f"{name} is damaged or missing: run dvc repro backbone"):
        load_engine(engine, folder)


@pytest.mark.parametrize("content", [None, "", "{}", '{"name": "MobileNetV2"'], ids=str)
@pytest.mark.parametrize("engine", ["openvino", "tensorflow"])
def test_a_folder_without_a_whole_description_says_what_makes_it(
    tmp_path: Path, content: str | None, engine: EngineName
) -> None:
    if content is not None:
        (tmp_path / "backbone.json").write_text(content, encoding="utf-8")
    with pytest.raises(BackboneError, match="run dvc repro backbone"):
        read_backbone_info(tmp_path)
    with pytest.raises(BackboneError, match="run dvc repro backbone"):
        load_engine(engine, tmp_path)
