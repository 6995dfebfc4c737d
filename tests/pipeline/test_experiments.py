"""Variations of one run: each executes the stages that it changes and no other, and a return computes nothing."""

import csv
import io
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.sources import sample
from dermoscopy.runtime.workspace import PROJECT
from tests.support.drawn_project import CHANGES, drawn_project
from tests.support.params_file import PARAMS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workspace:
    """A finished run on a folder beside the project; the tests of this module go on from it in their order."""
    folder = tmp_path_factory.mktemp("experiments")
    (folder / "drawn").mkdir()
    sample.fetch(PARAMS.data.model_copy(update=CHANGES["data"]), folder / "drawn", folder)
    workspace = drawn_project(folder / "project", cache, data={"source": "directory", "directory": "../drawn"})
    workspace.dvc("repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "first run")
    workspace.run("git", "tag", "first-run")
    return workspace


def test_nothing_changed_executes_nothing(project: Workspace) -> None:
    assert executed(project.dvc("repro")) == []


def test_every_plot_is_drawn(project: Workspace) -> None:
    project.dvc("plots", "show", "--out", "page")
    page = (project.folder / "page/index.html").read_text()
    plots = ["Loss", "Accuracy", "Confusion matrix", "ROC", "Precision and recall", "Reliability", "Images of each"]
    plots += ["Accuracy against balanced accuracy"]
    assert [name for name in plots if name not in page] == []
    assert list((project.folder / "page/static").glob("*confusion_matrix.png"))
    vega = json.loads(project.dvc("plots", "show", "--json"))
    assert len(vega["data"]) == 10
    assert "errors" not in vega


def test_a_new_dropout_trains_evaluates_and_reports_and_nothing_else(project: Workspace) -> None:
    assert project.experiment("train.dropout=0.4", "train.epochs=5") == ["train", "evaluate", "report"]
    difference = project.dvc("metrics", "diff", "HEAD")
    assert "test.log_loss" in difference
    rows = list(csv.DictReader(io.StringIO(project.dvc("exp", "show", "--csv"))))
    assert float(rows[0]["test.balanced_accuracy"]) > 0
    assert {row["train.dropout"] for row in rows} >= {"0.4", "0.5"}


def test_scoring_without_averaged_views_only_evaluates_and_reports(project: Workspace) -> None:
    executed_stages = project.experiment("train.dropout=0.4", "train.epochs=5", "evaluate.tta=false")
    assert executed_stages == ["evaluate", "report"]


def test_the_gallery_only_reports(project: Workspace) -> None:
    changes = ("train.dropout=0.4", "train.epochs=5", "evaluate.tta=false")
    assert project.experiment(*changes, "report.gallery=1") == ["report"]


def test_more_views_compute_only_the_new_ones_and_a_return_only_reports(project: Workspace) -> None:
    def chunks() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (project.folder / "data/.features").glob("*/[!.]*.chunk")}

    before = chunks()
    assert before
    view = (project.folder / "data/features/view_001.npy").read_bytes()
    assert "features" in project.experiment("augmentation.views=2", "train.epochs=2")
    after = chunks()
    assert {path: after[path] for path in before} == before
    assert len({path.parent for path in set(after) - set(before)}) == 1
    assert (project.folder / "data/features/view_001.npy").read_bytes() == view
    first = ("augmentation.views=1", "train.dropout=0.5", "train.epochs=3", "evaluate.tta=true", "report.gallery=3")
    # DVC keeps no run cache of a stage with an output for Git that is neither metric nor plot: the model card
    assert project.experiment(*first) == ["report"]
    # it writes the same again
    assert project.run("git", "diff", "--stat", "first-run", "--", "report", "metrics", "plots") == ""


def test_queued_experiments_finish_and_find_a_relative_directory(project: Workspace) -> None:
    project.dvc("exp", "run", "--queue", "-S", "train.learning_rate=0.001,0.002", "-S", "train.epochs=2")
    # a param of the download stage, so that it runs in DVC's temporary copy of the project
    project.dvc("exp", "run", "--queue", "-S", "data.seed=2", "-S", "train.epochs=2")
    status = project.finish_queue()
    assert status.count("Success") == 3, status


def test_the_experiments_fit_a_terminal_and_the_best_one_comes_first(
    project: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["make", "--dry-run", "--directory", str(PROJECT), "experiments"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\\\n", "")
    (show,) = (line for line in text.splitlines() if "dvc exp show" in line)
    _, *arguments = shlex.split(show)
    headline = ["test.accuracy", "test.balanced_accuracy", "test.macro_f1"]
    for width, metrics in [(80, headline[:2]), (100, headline), (400, headline)]:
        monkeypatch.setenv("COLUMNS", str(width))
        _, header, *lines = project.dvc(*arguments).splitlines()
        assert max(map(len, [header, *lines])) <= width
        experiment, *names = header.split()
        assert [experiment, *names[: len(metrics)]] == ["Experiment", *metrics]
    assert {"train.dropout", "train.epochs", "evaluate.tta"} <= set(names)
    assert all(name.split(".")[0] in PARAMS.model_fields_set for name in names[3:])
    rows = csv.DictReader(io.StringIO(project.dvc(*arguments, "--csv")))
    scores = [float(row["test.balanced_accuracy"]) for row in rows if row["Experiment"]]
    assert len(scores) > 3
    assert scores == sorted(scores, reverse=True)
