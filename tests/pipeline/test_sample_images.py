"""The whole pipeline on drawn images and random weights: determinism, engines and backbones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.workspace import Workspace, executed

STAGES = ["download", "manifest", "split", "backbone", "features", "train", "evaluate"]


def changes(name: str, image_size: int) -> dict[str, dict[str, Any]]:
    return {
        "data": {"source": "sample", "sample_images": 100},
        "backbone": {"name": name, "weights": "random", "image_size": image_size},
        "augmentation": {"views": 2},
        "train": {"epochs": 3},
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("first")
    workspace = Workspace(folder / "project", folder / "cache", changes("MobileNetV2", 64))
    assert sorted(executed(workspace.dvc("repro"))) == sorted(STAGES)
    return workspace


def results(workspace: Workspace) -> dict[str, bytes]:
    files = [*(workspace.folder / "data/features").iterdir(), *(workspace.folder / "models/backbone").iterdir()]
    files += [workspace.folder / "data" / name for name in ("manifest.csv", "split.csv")]
    files += [workspace.folder / "data" / name for name in ("predictions.csv", "predictions_tta.csv")]
    files += [workspace.folder / "models/head.keras", workspace.folder / "models/head.json"]
    files += [workspace.folder / "metrics/metrics.json", workspace.folder / "plots/confusion_matrix.png"]
    return {path.relative_to(workspace.folder).as_posix(): path.read_bytes() for path in files}


def test_two_runs_from_scratch_give_the_same_bytes(first: Workspace, tmp_path: Path) -> None:
    second = Workspace(tmp_path / "project", tmp_path / "cache", changes("MobileNetV2", 64))
    assert sorted(executed(second.dvc("repro"))) == sorted(STAGES)
    ours, theirs = results(first), results(second)
    assert [name for name in ours | theirs if ours.get(name) != theirs.get(name)] == []


def test_a_checkout_stays_clean_but_for_what_git_is_to_keep(first: Workspace) -> None:
    untracked = first.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert all(line[3:].startswith(("dvc.lock", "metrics/", "plots/")) for line in untracked), untracked


def test_engines_agree(first: Workspace) -> None:
    openvino = [np.load(path) for path in sorted((first.folder / "data/features").glob("view_*.npy"))]
    assert first.experiment("features.engine=tensorflow")[0] == "features"
    tensorflow = [np.load(path) for path in sorted((first.folder / "data/features").glob("view_*.npy"))]
    for a, b in zip(openvino, tensorflow, strict=True):
        assert not np.array_equal(a, b)
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a)


def test_without_a_test_part_validation_is_scored_alone(first: Workspace) -> None:
    executed_stages = first.experiment("split.test=0", "split.validation=0.2", "split.group=image")
    assert executed_stages == ["split", "train", "evaluate"]
    assert list(first.metrics()) == ["validation"]


def test_a_wrong_param_stops_the_run_with_one_line(first: Workspace) -> None:
    output = first.dvc("exp", "run", "-S", "train.dropout=1.5", status=255)
    lines = [line for line in output.splitlines() if "dropout" in line]
    assert lines == ["error: params.yaml: train.dropout = 1.5 is refused: allowed is a number >= 0 and < 1"]
    assert "Traceback" not in output


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One DVC cache for all backbones, so that the images are drawn once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(("name", "dim"), [("InceptionResNetV2", 1536), ("DenseNet121", 1024), ("ConvNeXtSmall", 768)])
def test_backbone_goes_through_the_whole_pipeline(name: str, dim: int, cache: Path, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "project", cache, changes(name, 75))
    workspace.dvc("repro")
    assert np.load(workspace.folder / "data/features/view_002.npy").shape == (100, dim)
    assert workspace.metrics()["test"]["support"] > 0
