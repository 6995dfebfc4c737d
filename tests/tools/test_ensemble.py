"""The command that scores ensembles, on real experiments of a small project, queued as the README says."""

import json
import re
import sys
from typing import Any

import pytest

from benchmarks.workspace import Workspace
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.ensembles import combine
from dermoscopy.scoring.metrics import Metrics, point_metrics
from dermoscopy.scoring.runs import Run
from tests.support.prediction_tables import SHARES, drawn_training, make_run
from tests.support.tool import run_tool
from tools import ensemble

# A project of one stage that writes what the pipeline's stages write, by params of the same names.
STAGE = """
from pathlib import Path
import pandas as pd
from dermoscopy.data.tables import write_table
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.runtime.params import load_params
from tests.support.prediction_tables import SHARES, drawn_training

params = load_params()
table = pd.concat(drawn_training(params.train.seed, params.train.dropout, params.split.seed))
if params.split.test == 0:
    table["part"] = "validation"
write_table(table[["image_id", "lesion_id"]].assign(sha256=table["image_id"]), Path("data/manifest.csv"))
write_table(table.drop(columns=["lesion_id", "group_id"]), Path("data/predictions_tta.csv"))
head = HeadInfo(
    classes=list("abcde"), prior=SHARES, class_weights=[1] * 5, backbone="", augmentation=params.augmentation
)
Path("models").mkdir(exist_ok=True)
Path("models/head.json").write_text(head.model_dump_json())
"""
OUTS = ["data/manifest.csv", "data/predictions_tta.csv", "models/head.json"]


def expected(seeds: list[int], weights: list[int]) -> Run:
    """Return the ensemble of trainings with these seeds."""
    parts = [drawn_training(seed) for seed in seeds]
    return combine(
        [make_run(str(seed), test, validation) for seed, (validation, test) in zip(seeds, parts, strict=True)], weights
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A commit with three queued experiments of other seeds, and some more; the workspace is at the commit."""
    folder = tmp_path_factory.mktemp("ensemble")
    changes: dict[str, dict[str, Any]] = {"evaluate": {"malignant": ["bcc"]}, "train": {"seed": 9}}
    workspace = Workspace(folder / "project", folder / "cache", changes)
    (workspace.folder / "make.py").write_text(STAGE)
    (workspace.folder / "tests").symlink_to(PROJECT / "tests")
    (workspace.folder / ".gitignore").write_text("/data\n/models\n__pycache__\n")
    (workspace.folder / "dvc.yaml").unlink()
    (workspace.folder / "metrics").mkdir()
    options = [*(f"-o{out}" for out in OUTS), "-psplit,train,evaluate", "-dmake.py"]
    workspace.dvc("stage", "add", "--name", "make", *options, "python make.py")
    workspace.dvc("repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "first")
    workspace.dvc("exp", "run", "--queue", "--name", "seed", "-S", "train.seed=range(1,4)")
    for name, change in {
        "useless": "train.dropout=0.9",
        "balanced": "evaluate.prior_exponent=0.8",
        "other-images": "split.seed=2",
        "untested": "split.test=0",
    }.items():
        workspace.dvc("exp", "run", "--queue", "--name", name, "-S", change)
    workspace.dvc("exp", "run", "--run-all")
    return workspace


def test_one_member_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ensemble", "HEAD"])
    with pytest.raises(SystemExit) as stop:
        ensemble.main()
    assert stop.value.code == 2
    assert "the following arguments are required: B" in capsys.readouterr().err


@pytest.mark.slow
class TestProject:
    """The command, on experiments, a revision and the workspace of a real DVC project."""

    def ensemble(self, project: Workspace, *arguments: str, status: int = 0) -> str:
        return project.python("-m", "tools.ensemble", *arguments, status=status)

    def result(self, project: Workspace) -> dict[str, Any]:
        return dict(json.loads((project.folder / "metrics/ensemble.json").read_text()))

    def test_queued_seeds_are_combined_compared_and_nothing_is_checked_out(self, project: Workspace) -> None:
        before = project.run("git", "status", "--porcelain"), (project.folder / "params.yaml").read_bytes()
        output = self.ensemble(project, "seed-1", "seed-2", "seed-3")
        text = (project.folder / "metrics/ensemble.json").read_text()
        (project.folder / "metrics/ensemble.json").unlink()
        assert (project.run("git", "status", "--porcelain"), (project.folder / "params.yaml").read_bytes()) == before

        result, of_all = json.loads(text), expected([1, 2, 3], [1, 1, 1])
        assert [(member["name"], member["weight"]) for member in result["members"]] == [
            ("seed-1", 1),
            ("seed-2", 1),
            ("seed-3", 1),
        ]
        for part, table in {"validation": of_all.validation, "test": of_all.test}.items():
            of_part = [Metrics.model_validate(values[part]) for values in (*result["members"], result)]
            alone = [point_metrics(getattr(expected([seed], [1]), part)) for seed in (1, 2, 3)]
            for found, known in zip(of_part, [*alone, point_metrics(table)], strict=True):
                for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "log_loss", "ece"):
                    assert getattr(found, name) == pytest.approx(getattr(known, name), abs=1e-6)
        low, high = result["test"]["balanced_accuracy_ci"]
        assert low < result["test"]["balanced_accuracy"] < high
        assert result["test"]["screening"]["classes"] == ["bcc"]  # as the workspace's params say

        on_validation = {member["name"]: member["validation"]["balanced_accuracy"] for member in result["members"]}
        best = max(on_validation, key=lambda name: on_validation[name])
        assert result["best_member"] == best
        assert f"The ensemble minus {best}, the member of the highest balanced accuracy on validation" in output
        lines = output.splitlines()
        assert lines[-2].startswith("ensemble is better than " + best)
        assert lines[-1] == "ensemble: the mean of 3 of 3 runs; all numbers are in metrics/ensemble.json"
        assert self.ensemble(project, "seed-1", "seed-2", "seed-3") == output
        assert (project.folder / "metrics/ensemble.json").read_text() == text

    def test_a_greedy_ensemble_leaves_out_what_does_not_help(self, project: Workspace) -> None:
        output = self.ensemble(project, "useless", "seed-1", "seed-2", "--greedy", "--out", "greedy.json")
        result = json.loads((project.folder / "greedy.json").read_text())
        (useless, *weights) = [member["weight"] for member in result["members"]]
        assert useless == 0
        assert min(weights) > 0
        assert result["test"]["log_loss"] == pytest.approx(
            point_metrics(expected([1, 2], weights).test).log_loss, abs=1e-6
        )
        assert re.search("^Left out, .*: useless$", output, re.MULTILINE)
        assert output.splitlines()[-1] == "ensemble: the mean of 2 of 3 runs; all numbers are in greedy.json"

    def test_members_may_decide_by_other_exponents(self, project: Workspace) -> None:
        self.ensemble(project, "balanced", "workspace")
        (_, test), result = drawn_training(9), self.result(project)
        alike = {name: result["test"][name] for name in ("macro_auc", "log_loss", "ece")}
        assert alike == pytest.approx({name: getattr(point_metrics(test), name) for name in alike}, abs=1e-6)
        by_prior = make_run("a", test, prior=SHARES, exponent=0.8)
        decided = point_metrics(combine([by_prior, make_run("b", test)], [1, 1]).test)
        assert result["test"]["balanced_accuracy"] == pytest.approx(decided.balanced_accuracy)
        assert decided.balanced_accuracy != pytest.approx(point_metrics(test).balanced_accuracy)

    def test_standard_output_has_the_numbers_and_nothing_else(self, project: Workspace) -> None:
        found = run_tool("ensemble", project.folder, "seed-1", "HEAD", "--out", "-")
        assert json.loads(found.out)["members"][1]["name"] == "HEAD"
        assert found.err.splitlines()[-1] == "ensemble: the mean of 2 of 2 runs; all numbers are in standard output"

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (
                "other-images",
                "HEAD and other-images cannot be compared: they were tested on different images, 300 and ",
            ),
            ("untested", "untested has no test images (split.test = 0)"),
            ("unknown", "unknown cannot be read ("),
        ],
        ids=["other images", "no test part", "unknown"],
    )
    def test_what_cannot_be_a_member_is_refused_in_one_line(self, project: Workspace, other: str, message: str) -> None:
        output = self.ensemble(project, "HEAD", "seed-1", other, "--out", "refused.json", status=1)
        assert output.startswith(f"error: {message}")
        assert output.count("\n") == 1
        assert not (project.folder / "refused.json").exists()
