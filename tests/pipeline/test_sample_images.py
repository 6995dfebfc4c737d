"""The whole pipeline on drawn images and random weights: determinism, engines and backbones."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.images import read_image
from dermoscopy.data.tables import read_table
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.activation_maps import LastMaps, linear_head
from dermoscopy.model.head import load_head

STAGES = ["download", "manifest", "split", "backbone", "features", "train", "evaluate", "report"]


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
    files += [workspace.folder / "report/index.html", workspace.folder / "report/MODEL_CARD.md"]
    return {path.relative_to(workspace.folder).as_posix(): path.read_bytes() for path in files}


def test_two_runs_from_scratch_give_the_same_bytes(first: Workspace, tmp_path: Path) -> None:
    second = Workspace(tmp_path / "project", tmp_path / "cache", changes("MobileNetV2", 64))
    assert sorted(executed(second.dvc("repro"))) == sorted(STAGES)
    ours, theirs = results(first), results(second)
    assert [name for name in ours | theirs if ours.get(name) != theirs.get(name)] == []


def test_a_checkout_stays_clean_but_for_what_git_is_to_keep(first: Workspace) -> None:
    untracked = first.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert all(line[3:].startswith(("dvc.lock", "metrics/", "plots/", "report/MODEL_CARD.md")) for line in untracked), (
        untracked
    )


def test_dvc_finds_the_head_for_the_model_registry(first: Workspace) -> None:
    code = "from dvc.repo import Repo; print(Repo().artifacts.read()['dvc.yaml']['head'].path)"
    assert first.python("-c", code).strip() == "models/head.keras"


def test_a_run_is_found_in_the_history_of_git_by_what_its_page_says(first: Workspace) -> None:
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "--message", "first run")
    commands = re.search("git log .*MODEL_CARD.md", (first.folder / "report/index.html").read_text())
    assert commands is not None
    found = first.run(*commands[0].split()).splitlines()
    assert [line.split(maxsplit=1)[1] for line in found] == ["first run"]


def test_engines_agree(first: Workspace) -> None:
    openvino = [np.load(path) for path in sorted((first.folder / "data/features").glob("view_*.npy"))]
    assert first.experiment("features.engine=tensorflow")[0] == "features"
    tensorflow = [np.load(path) for path in sorted((first.folder / "data/features").glob("view_*.npy"))]
    for a, b in zip(openvino, tensorflow, strict=True):
        assert not np.array_equal(a, b)
        assert np.linalg.norm(a - b) <= 1e-4 * np.linalg.norm(a)


def test_without_a_test_part_validation_is_scored_alone(first: Workspace) -> None:
    executed_stages = first.experiment("split.test=0", "split.validation=0.2", "split.group=image")
    assert executed_stages == ["split", "train", "evaluate", "report"]
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
def test_backbone_goes_through_the_whole_pipeline(name: str, dim: int, cache: Path, tmp_path: Path, keras: Any) -> None:
    workspace = Workspace(tmp_path / "project", cache, changes(name, 75))
    workspace.dvc("repro")
    assert np.load(workspace.folder / "data/features/view_002.npy").shape == (100, dim)
    assert workspace.metrics()["test"]["support"] > 0
    # what places add up to is what the head said
    folder, images = workspace.folder, read_table(workspace.folder / "data/manifest.csv").set_index("image_id")
    head, _ = load_head(folder / "models/head.keras", folder / "models/head.json")
    linear, last_maps = linear_head(head), LastMaps(folder / "models/backbone")
    predictions = read_table(folder / "data/predictions.csv").head(5)
    for image_id, expected in zip(predictions["image_id"], predictions.filter(regex="^p_").to_numpy(), strict=True):
        pixels = render_views(read_image(folder / images["path"][image_id]), [Warp()], 75)[0]
        logits = linear.activation_maps(last_maps.run(pixels)).mean(axis=(0, 1)) + linear.bias
        np.testing.assert_allclose(softmax(logits), expected, rtol=1e-3, atol=1e-6)
