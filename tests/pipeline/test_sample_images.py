"""The whole pipeline, run by DVC on drawn images with random weights: its files, and that they come again."""

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.images import read_image
from dermoscopy.data.tables import read_table
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.activation_maps import LastMaps
from dermoscopy.model.head import load_head
from dermoscopy.scoring.metrics import HEADLINES, OF_A_CLASS
from tests.support.drawn_project import STAGES, drawn_project

UP_TO_DATE = "listing:\n\talways changed\n"  # and nothing else


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workspace:
    """A finished run; the tests of this module go on from it in their order."""
    workspace = drawn_project(tmp_path_factory.mktemp("first") / "project", cache)
    workspace.dvc("repro")
    return workspace


def results(workspace: Workspace) -> dict[str, bytes]:
    """Return the bytes of each file that a run has made, but for the drawn images and the training log."""
    files = [*(workspace.folder / "data/features").iterdir(), *(workspace.folder / "models/backbone").iterdir()]
    files += [workspace.folder / "data" / name for name in ("manifest.csv", "split.csv")]
    files += [workspace.folder / "data" / name for name in ("predictions.csv", "predictions_tta.csv")]
    files += [workspace.folder / "models/head.npz", workspace.folder / "models/head.json"]
    files += [workspace.folder / "metrics/metrics.json", workspace.folder / "plots/confusion_matrix.png"]
    files += [workspace.folder / "report/index.html", workspace.folder / "report/MODEL_CARD.md"]
    return {path.relative_to(workspace.folder).as_posix(): path.read_bytes() for path in files}


def test_a_checkout_stays_clean_but_for_what_git_is_to_keep(first: Workspace) -> None:
    untracked = first.run("git", "status", "--porcelain", "--untracked-files=all").splitlines()
    assert untracked
    assert all(line[3:].startswith(("dvc.lock", "metrics/", "plots/", "report/MODEL_CARD.md")) for line in untracked), (
        untracked
    )


def test_what_python_compiles_beside_the_code_changes_no_stage(first: Workspace) -> None:
    first.python("-m", "compileall", "-q", "dermoscopy", "stages", "tools")
    assert list((first.folder / "dermoscopy/scoring").glob("__pycache__/*.pyc"))
    assert first.dvc("status") == UP_TO_DATE


def test_metrics_hold_to_the_contract(first: Workspace) -> None:
    metrics = first.metrics()
    assert list(metrics) == ["validation", "test"]
    names = {*HEADLINES, *(f"{name}_ci" for name in HEADLINES)}
    names |= {"weighted_f1", "log_loss", "ece", "ece_floor", "support", "per_class", "screening", "notes"}
    of_a_class = {*OF_A_CLASS, *(f"{name}_ci" for name in OF_A_CLASS), "precision", "support", "mean_probability"}
    points = {
        f"{a}_at_{percent}_{b}"
        for a, b in (("sensitivity", "specificity"), ("specificity", "sensitivity"))
        for percent in (90, 95)
    }
    screening = {"auc", *points}
    assert set(metrics["validation"]) == names
    assert set(metrics["test"]) == names | {"temperature", "biases", "log_loss_calibrated", "ece_calibrated"}
    calibrated: dict[str, set[str]] = {"validation": set(), "test": {"mean_probability_calibrated"}}
    for name, part in metrics.items():
        assert list(part["per_class"]) == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
        assert all(set(values) == of_a_class | calibrated[name] for values in part["per_class"].values())
        limits = {f"{name}_ci" for name in screening}
        assert set(part["screening"]) == screening | limits | {"classes", "malignant", "benign"}
        assert part["screening"]["classes"] == ["akiec", "bcc", "mel"]


def test_predictions_hold_to_the_contract(first: Workspace) -> None:
    split = pd.read_csv(first.folder / "data/split.csv")
    for name in ("predictions.csv", "predictions_tta.csv"):
        table = pd.read_csv(first.folder / "data" / name)
        probabilities = table.filter(regex="^p_")
        assert list(table.columns[:4]) == ["image_id", "part", "label", "predicted"]
        assert set(table["image_id"]) == set(split["image_id"][split["part"] != "train"])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        assert list("p_" + table["predicted"]) == list(probabilities.idxmax(axis=1))


def test_dvc_finds_the_head_for_the_model_registry(first: Workspace) -> None:
    code = "from dvc.repo import Repo; print(Repo().artifacts.read()['dvc.yaml']['head'].path)"
    assert first.python("-c", code).strip() == "models/head.npz"


def test_a_run_is_found_in_the_history_of_git_by_what_its_page_says(first: Workspace) -> None:
    first.run("git", "add", "--all")
    first.run("git", "commit", "--quiet", "--message", "first run")
    page = html.unescape((first.folder / "report/index.html").read_text())
    command = re.search("git grep .*MODEL_CARD.md", page)
    assert command is not None
    (found,) = first.run("sh", "-c", command[0]).splitlines()
    assert first.run("git", "log", "-1", "--format=%s", found.split(":")[0]) == "first run\n"


@pytest.mark.slow
def test_two_runs_from_scratch_give_the_same_bytes(first: Workspace, tmp_path: Path) -> None:
    second = drawn_project(tmp_path / "project", tmp_path / "cache")
    assert sorted(executed(second.dvc("repro"))) == sorted(STAGES)
    ours, theirs = results(first), results(second)
    assert [name for name in ours | theirs if ours.get(name) != theirs.get(name)] == []


@pytest.mark.slow
def test_a_wrong_param_stops_the_run_with_one_line(first: Workspace) -> None:
    output = first.dvc("exp", "run", "-S", "train.dropout=1.25", status=255)
    lines = [line for line in output.splitlines() if "dropout" in line]
    assert lines == ["error: params.yaml: train.dropout = 1.25: input should be less than 1"]
    assert "Traceback" not in output


@pytest.mark.slow
def test_without_a_test_part_validation_is_scored_alone(first: Workspace) -> None:
    first.run("git", "restore", "params.yaml")
    executed_stages = first.experiment("split.test=0", "split.validation=0.2", "split.group=image")
    assert executed_stages == ["split", "finetune", "train", "evaluate", "report"]
    assert list(first.metrics()) == ["validation"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dim"), [("InceptionResNetV2", 1536), ("DenseNet121", 1024), ("ConvNeXtSmall", 768)])
def test_each_backbone_of_the_readme_goes_through_the_whole_pipeline(
    name: str, dim: int, cache: Path, tmp_path: Path, keras: Any
) -> None:
    workspace = drawn_project(tmp_path / "project", cache, backbone={"name": name, "image_size": 75})
    workspace.dvc("repro")
    assert np.load(workspace.folder / "data/features/view_001.npy").shape == (100, dim)
    assert workspace.metrics()["test"]["support"] > 0
    # what places add up to is what the head said
    folder, images = workspace.folder, read_table(workspace.folder / "data/manifest.csv").set_index("image_id")
    head, _ = load_head(folder / "models/head.npz", folder / "models/head.json")
    last_maps = LastMaps(folder / "models/backbone")
    predictions = read_table(folder / "data/predictions.csv").head(5)
    for image_id, expected in zip(predictions["image_id"], predictions.filter(regex="^p_").to_numpy(), strict=True):
        pixels = render_views(read_image(folder / images["path"][image_id]), [Warp()], 75)[0]
        logits = head.activation_maps(last_maps.maps(pixels)).mean(axis=(0, 1)) + head.bias
        np.testing.assert_allclose(softmax(logits), expected, rtol=1e-3, atol=1e-6)
