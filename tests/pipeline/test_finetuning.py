"""Fine-tuning under real DVC: off it changes nothing, on it changes features, and a new split tunes anew."""

import json
from typing import Any

import keras
import pytest

from benchmarks.workspace import Workspace
from dermoscopy.features.store import FeaturesInfo
from dermoscopy.runtime.paths import FEATURES
from tests.support.dvc_run import outputs
from tests.support.tuning_project import PARAMS, SIZE, calibrated_backbone, draw_coloured_images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run with a frozen backbone; the tests of this module go on from it in their order."""
    folder = tmp_path_factory.mktemp("finetuning")
    draw_coloured_images(folder / "raw")
    backbone = calibrated_backbone(folder / "raw")
    network = next(layer for layer in backbone.layers if isinstance(layer, keras.Model))
    network.save_weights(folder / "network.weights.h5")
    changes: dict[str, dict[str, Any]] = PARAMS | {
        "data": {"source": "directory", "directory": "../raw"},
        "backbone": {"name": "MobileNetV2", "weights": "../network.weights.h5", "image_size": SIZE},
        "finetune": PARAMS["finetune"] | {"epochs": 0},
    }
    workspace = Workspace(folder / "project", folder / "cache", changes)
    workspace.dvc("repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "frozen")
    return workspace


def features(project: Workspace) -> FeaturesInfo:
    return FeaturesInfo.model_validate_json((project.folder / FEATURES / "features.json").read_text())


def test_on_it_changes_the_features_and_off_again_it_computes_nothing(project: Workspace) -> None:
    frozen, before = features(project), outputs(project.folder)
    executed = project.experiment("finetune.epochs=2")
    assert executed == ["finetune", "features", "train", "evaluate", "report"]
    assert json.loads((project.folder / "models/finetuned/finetuning.json").read_text())["kept"] > 0
    assert features(project).backbone != frozen.backbone
    page = (project.folder / "report/index.html").read_text()
    assert "Fine-tuning, before it" in page
    assert "A fine-tuned backbone" in page
    assert "A fine-tuned MobileNetV2" in (project.folder / "report/MODEL_CARD.md").read_text()
    assert project.experiment("finetune.epochs=0") == ["report"]
    after = outputs(project.folder)
    del before["report/index.html"], after["report/index.html"]  # which names the experiment
    assert after == before


def test_another_dropout_does_not_tune_again_and_another_split_does(project: Workspace) -> None:
    project.experiment("finetune.epochs=1")
    first = features(project)
    assert project.experiment("train.dropout=0.3") == ["train", "evaluate", "report"]
    assert "finetune" in project.experiment("split.seed=2")
    assert features(project).backbone != first.backbone


def test_what_holds_out_images_that_the_backbone_knows_refuses(project: Workspace) -> None:
    for command in (["tools.crossvalidate", "--folds", "2"], ["tools.repeat", "-n", "2"]):
        said = project.python("-m", *command, status=1)
        assert said.startswith("error: the backbone was fine-tuned on ")
        assert said.count("\n") == 1
    assert "--finetune" in project.python("-m", "tools.crossvalidate", "--folds", "2", status=1)
    said = project.python("-m", "tools.compare", "workspace", "HEAD", "--seeds", "2", status=1)
    assert "the backbone was fine-tuned on" in said
    assert not (project.folder / "metrics/crossvalidation.json").exists()


def test_cross_validation_tunes_anew_in_each_fold(project: Workspace) -> None:
    said = project.python("-m", "tools.crossvalidate", "--folds", "2", "--finetune")
    assert "crossvalidate: 2 folds, 200 images predicted" in said
    assert len(list((project.folder / "models/.finetune").iterdir())) >= 3
    assert json.loads((project.folder / "metrics/crossvalidation.json").read_text())["pooled"]["accuracy"] > 0.5


def test_without_epochs_cross_validation_says_that_it_cannot_tune(project: Workspace) -> None:
    project.run("git", "restore", "params.yaml")
    said = project.python("-m", "tools.crossvalidate", "--finetune", status=1)
    assert said.startswith("error: --finetune needs finetune.epochs above 0")
