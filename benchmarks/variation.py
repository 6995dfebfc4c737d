"""How long a variation takes: `dvc exp run -S train.dropout=...` at the size of HAM10000, with real Git and DVC.

Where a folder `shared` is beside the checkout, the 10,015 real images and MobileNetV2's real features of them are used.
Elsewhere both are made up: the images are small, and the features are as long as InceptionResNetV2's and learnable to
an accuracy of about 0.75, so that training stops as early as on real ones. `dvc commit` records them as outputs of
their stages. The backbone is then one with random weights, because the report runs it. The titles say which it was.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.made_up import learnable_features, write_images, write_made_up_features
from benchmarks.processes import stage_seconds, timed_lines
from benchmarks.real_data import IMAGES_IN_PLACE, MOBILENET, has_real_data
from benchmarks.startup import Imports, import_tensorflow
from benchmarks.timing import Row, alternate, summarize, timed
from benchmarks.workspace import Workspace
from dermoscopy.data.sources.sample import plan
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.computation import features_info
from dermoscopy.features.engines.choice import engine_identity
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import BACKBONE, FEATURES, MANIFEST, PARAMS, RAW, TRAINING_CURVES

IMAGES = 10_015  # of HAM10000
SIGNAL = 0.15
BEFORE = 0.5  # the dropout of the first run
DROPOUTS = (0.4, 0.3, 0.45)
ROUNDS = 3


def measure() -> dict[str, list[Row]]:
    first = {"train": {"dropout": BEFORE}}
    with TemporaryDirectory() as folder:
        if has_real_data():
            made_of = "real images and features"
            workspace = make_real_project(Path(folder), first)
        else:
            made_of = "made-up images and features"
            workspace = make_finished_project(Path(folder), IMAGES, first | {"backbone": {"weights": "random"}})
        variations = [vary(workspace, dropout) for dropout in DROPOUTS]
        idle = alternate({"dvc repro": partial(workspace.dvc, "repro")}, ROUNDS)
        returns = [vary(workspace, dropout) for dropout in (BEFORE, *DROPOUTS[:2])]
        imports = import_seconds(workspace)
    columns = ["s", "DVC, s", *(f"{stage}, s" for stage in imports)]
    return {
        f"A variation at HAM10000's size, {made_of}: dvc exp run -S train.dropout=...": variations,
        "Its parts": [{"part": name, **summarize([row[name] for row in variations], "s")} for name in columns],
        "Of each stage, imports": [{"stage": stage, **summarize(values, "s")} for stage, values in imports.items()],
        "Nothing to do": [{"command": command, **summarize(values, "s")} for command, values in idle.items()],
        "Back to a dropout that was there before": returns,
    }


def make_real_project(folder: Path, changes: dict[str, dict[str, Any]]) -> Workspace:
    """Return a project in which everything has been run and committed, with HAM10000 and MobileNetV2."""
    real = {"data": IMAGES_IN_PLACE, "backbone": MOBILENET}
    workspace = Workspace(folder / "project", folder / "cache", real | changes)
    workspace.dvc("repro")
    commit_first_run(workspace)
    return workspace


def make_finished_project(folder: Path, images: int, changes: dict[str, dict[str, Any]]) -> Workspace:
    """Return a project in which everything has been run and committed, with made-up images and features."""
    drawn = {"data": {"source": "sample"}, "features": {"engine": "openvino"}}
    workspace = Workspace(folder / "project", folder / "cache", drawn | changes)
    write_images(workspace.folder / RAW, plan(images, seed=1), width=64, height=48)
    workspace.dvc("commit", "--force", "download")
    workspace.dvc("repro", "finetune")
    write_stage_features(workspace.folder)
    workspace.dvc("commit", "--force", "features")
    workspace.dvc("repro")
    commit_first_run(workspace)
    return workspace


def commit_first_run(workspace: Workspace) -> None:
    """Commit what the first run has written for Git."""
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "first run")


def write_stage_features(project: Path) -> None:
    """Write made-up features as the features stage would write real ones."""
    manifest = pd.read_csv(project / MANIFEST)
    backbone = read_backbone_info(project / BACKBONE)
    augmentation = load_params(project / PARAMS).augmentation
    info = features_info(backbone, engine_identity("openvino"), augmentation, len(manifest))
    blocks = learnable_features(manifest["label"], info.dim, SIGNAL)
    write_made_up_features(project / FEATURES, info, manifest, blocks)


def vary(workspace: Workspace, dropout: float) -> dict[str, Any]:
    """Run a variation; return the seconds of its parts and of an import of TensorFlow beside it, and its results."""
    tensorflow = [timed(import_tensorflow)]
    command = [sys.executable, "-m", "dvc", "exp", "run", "-S", f"train.dropout={dropout}"]
    lines = timed_lines(command, workspace.folder)
    tensorflow.append(timed(import_tensorflow))
    stages = stage_seconds(lines)
    total = lines[-1][0]
    test = workspace.metrics()["test"]
    return {
        "dropout": dropout,
        "s": total,
        "DVC, s": total - sum(stages.values()),
        **{f"{stage}, s": seconds for stage, seconds in stages.items()},
        "import tensorflow (s)": mean(tensorflow),
        "times import tensorflow": total / mean(tensorflow),
        "epochs": len(pd.read_csv(workspace.folder / TRAINING_CURVES / "eval/loss.tsv", sep="\t")),
        "accuracy": test["accuracy"],
        "balanced accuracy": test["balanced_accuracy"],
    }


def import_seconds(workspace: Workspace) -> dict[str, list[float]]:
    """Return the seconds that only the imports of each stage of a variation take, in each of ROUNDS rounds."""
    loads: dict[str, Callable[[], object]] = {
        stage: Imports(workspace.folder, f"stages.{stage}").load for stage in ("listing", "train", "evaluate", "report")
    }
    return alternate(loads, ROUNDS)
