"""The command that compares runs: what it prints, and real Git revisions and DVC experiments of a small project."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.workspace import Workspace
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.comparison import compare
from dermoscopy.scoring.metrics import point_metrics
from tests.support.prediction_tables import drawn_images, make_run, worsened
from tools.compare import print_many, print_pair


def test_two_runs_are_shown_side_by_side_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = (make_run(name, worsened(drawn_images(400), count)) for name, count in {"good": 0, "bad": 50}.items())
    print_pair(good, bad, compare(good, bad))
    lines = capsys.readouterr().out.splitlines()
    ours, theirs = point_metrics(good.test).balanced_accuracy, point_metrics(bad.test).balanced_accuracy
    (row,) = [line.split() for line in lines if line.startswith("balanced_accuracy")]
    assert row[1:4] == [f"{value:.3f}" for value in (ours, theirs, theirs - ours)]
    assert "McNemar's exact test on accuracy: 50 images only good has right, 0 only bad: p = 1.78e-15" in lines
    assert "Sign-flip test on balanced accuracy, over lesions or patients: p = 0.0001" in lines
    assert "One training of each run is compared: " in "\n".join(lines)
    assert [line for line in lines if "--seeds n" in line]
    assert lines[-1].startswith(f"bad is worse than good: balanced accuracy {theirs - ours:+.3f}, 95 % interval -0.")


def test_several_runs_are_shown_with_corrected_p_values(capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = (make_run(f"run-{count}", worsened(drawn_images(400), count)) for count in (0, 1, 50))
    print_many(first, others, [compare(first, other) for other in others])
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "Holm-corrected for 2 comparisons" in line]
    assert [line for line in lines if "--seeds n" in line]
    rows = {line.split()[0]: line.split()[1:] for line in lines if re.match(r"run-\d+( +-?[\d.]+){4,} *$", line)}
    assert [len(row) for row in rows.values()] == [4, 9, 9]
    # of 50 images and of one, the smaller p-value counts twice
    assert (rows["run-1"][-1], rows["run-50"][-1]) == ("1.000", "0.000")
    assert lines[-2].startswith("run-1 is not distinguishable from run-0 with this much data: ")
    assert lines[-1].startswith("run-50 is worse than run-0: ")


def test_identical_runs_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    table = drawn_images(100)
    first, again, other = make_run("a", table), make_run("b", table), make_run("c", worsened(table, 5))
    print_pair(first, again, compare(first, again))
    sentence = "a and b are identical: the same predictions for all 100 test images."
    assert capsys.readouterr().out.splitlines()[-1] == sentence
    print_many(first, [again, other], [compare(first, again), compare(first, other)])
    assert capsys.readouterr().out.splitlines()[-2] == sentence


# A project of one stage that writes what the pipeline's stages write, by params of the same names.
STAGE = """
from pathlib import Path
import yaml
from dermoscopy.data.tables import write_table
from tests.support.prediction_tables import drawn_images

params = yaml.safe_load(Path("params.yaml").read_text())
seed = params["split"]["seed"]
skill = params["train"]["skill"] + {"weak": -1}.get(params["backbone"]["name"], 0)
table = drawn_images(399 + seed, seed, skill=skill)
write_table(table[["image_id", "lesion_id"]].assign(sha256=table["image_id"]), Path("data/manifest.csv"))
write_table(table.drop(columns=["lesion_id", "group_id"]), Path("data/predictions_tta.csv"))
one_view = drawn_images(399 + seed, seed, skill=0.3)
write_table(one_view.drop(columns=["lesion_id", "group_id"]), Path("data/predictions.csv"))
"""
OUTS = ["data/manifest.csv", "data/predictions.csv", "data/predictions_tta.csv"]
LISTED = ["backbone.name", "evaluate.tta", "split.seed", "train.skill"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two commits and some experiments on the second; the workspace is at the last one, and not at HEAD."""
    folder = tmp_path_factory.mktemp("compare")
    workspace = Workspace(folder / "project", folder / "cache", {})
    (workspace.folder / "params.yaml").write_text(
        "{backbone: {name: usual}, evaluate: {tta: true}, split: {seed: 1}, train: {skill: 1.0}}\n"
    )
    (workspace.folder / "make.py").write_text(STAGE)
    (workspace.folder / "tests").symlink_to(PROJECT / "tests")
    (workspace.folder / ".gitignore").write_text("/data\n__pycache__\n")
    (workspace.folder / "dvc.yaml").unlink()
    options = [*(f"-o{out}" for out in OUTS), *(f"-p{param}" for param in LISTED), "-dmake.py"]
    workspace.dvc("stage", "add", "--name", "make", *options, "python make.py")
    for message, change in {"first": "skill: 1.0", "second": "skill: 2.5"}.items():
        params = workspace.folder / "params.yaml"
        params.write_text(re.sub(r"skill: [\d.]+", change, params.read_text()))
        workspace.dvc("repro")
        workspace.run("git", "add", "--all")
        workspace.run("git", "commit", "--quiet", "--message", message)
    for name, change in {
        "other-images": "split.seed=2",
        "one-view": "evaluate.tta=false",
        "same": "train.skill=2.501",
    }.items():
        workspace.dvc("exp", "run", "--name", name, "-S", change)
        if name != "same":
            workspace.run("git", "restore", "params.yaml", "dvc.yaml", "dvc.lock")
    return workspace


@pytest.mark.slow
class TestProject:
    """The command, on revisions, experiments and the workspace of a real DVC project."""

    def compare(self, project: Workspace, *names: str, status: int = 0) -> str:
        return project.python("-m", "tools.compare", *names, status=status)

    def test_two_revisions_are_compared_and_nothing_is_checked_out(self, project: Workspace) -> None:
        before = project.run("git", "status", "--porcelain"), (project.folder / "params.yaml").read_bytes()
        output = self.compare(project, "HEAD~1", "HEAD")
        assert (project.run("git", "status", "--porcelain"), (project.folder / "params.yaml").read_bytes()) == before
        lines = output.splitlines()
        assert lines[0].startswith("400 test images of ")
        assert "  HEAD~1: the mean over all views (data/predictions_tta.csv)" in lines
        assert [line.split() for line in lines if line.startswith("train.skill")] == [["train.skill", "1.0", "2.5"]]
        assert re.search(r"^mel recall( +[-\d.]+){5}$", output, re.MULTILINE)
        assert re.search(
            r"McNemar's exact test on accuracy: \d+ images only HEAD~1 has right, \d+ only HEAD: p = ", output
        )
        expected = {
            name: point_metrics(drawn_images(400, seed=1, skill=skill)).balanced_accuracy
            for name, skill in {"HEAD~1": 1.0, "HEAD": 2.5}.items()
        }
        (row,) = [line.split() for line in lines if line.startswith("balanced_accuracy")]
        assert [float(value) for value in row[1:4]] == pytest.approx(
            [expected["HEAD~1"], expected["HEAD"], expected["HEAD"] - expected["HEAD~1"]], abs=6e-4
        )
        assert lines[-1].startswith(
            f"HEAD is better than HEAD~1: balanced accuracy +{float(row[3]):.3f}, 95 % interval"
        )

    def test_the_same_command_gives_the_same_text(self, project: Workspace) -> None:
        assert self.compare(project, "HEAD~1", "same") == self.compare(project, "HEAD~1", "same")

    def test_several_are_compared_with_the_first_with_corrected_p_values(self, project: Workspace) -> None:
        output = self.compare(project, "HEAD", "HEAD~1", "same", "workspace")
        assert "Holm-corrected for 3 comparisons" in output
        table = output[output.index("Holm-corrected") :]
        rows = {
            line.split()[0]: line.split()[1:] for line in table.splitlines() if re.match(r"\S+( +-?[\d.]+){4,}", line)
        }
        assert list(rows) == ["HEAD", "HEAD~1", "same", "workspace"]
        assert rows["same"] == rows["workspace"]
        assert output.splitlines()[-3].startswith("HEAD~1 is worse than HEAD: ")
        assert output.splitlines()[-2].startswith("same is not distinguishable from HEAD with this much data: ")

    def test_the_scored_table_is_the_one_that_tta_chooses_and_said(self, project: Workspace) -> None:
        output = self.compare(project, "HEAD", "one-view")
        assert "  one-view: the image alone (data/predictions.csv)" in output.splitlines()
        assert re.search(r"^evaluate.tta +True +False$", output, re.MULTILINE)
        assert output.splitlines()[-1].startswith("one-view is worse than HEAD")

    def test_different_test_images_are_refused_with_the_reason(self, project: Workspace) -> None:
        output = self.compare(project, "HEAD", "other-images", status=1)
        assert output.count("\n") == 1
        assert output.startswith(
            "error: HEAD and other-images cannot be compared: they were tested on different images, 4"
        )

    def test_predictions_that_the_cache_has_lost_are_refused_in_one_line(self, project: Workspace) -> None:
        cache = project.folder.parent / "cache"
        hidden = cache.rename(cache.with_name("hidden"))
        try:
            output = self.compare(project, "HEAD~1", "HEAD", status=1)
        finally:
            hidden.rename(cache)
        assert output.startswith("error: HEAD~1 cannot be read (")
        assert output.count("\n") == 1

    def test_make_backbones_queues_them_and_ends_with_the_table(self, project: Workspace) -> None:
        shutil.copy(PROJECT / "Makefile", project.folder)
        binaries = Path(sys.executable).parent
        # there is an experiment named same, which gives way
        settings = [
            f"BIN={binaries}",
            f"--old-file={binaries}/.installed",
            "BACKBONES=same weak",
            "--no-print-directory",
        ]
        lines = project.run("make", *settings, "backbones").splitlines()
        assert lines[-1].startswith("weak is worse than same: balanced accuracy -0.")
        (names,) = [line.split()[1:] for line in lines if line.startswith("backbone.name")]
        assert names == ["'same'", "'weak'"]
