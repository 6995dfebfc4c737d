"""Comparing runs: real Git revisions and DVC experiments of a small project, and pairs of tables with known answers."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from benchmarks.workspace import Workspace
from dermoscopy.data.tables import PREDICTIONS_TTA, write_table
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.bootstrap import DRAWS, bootstrap
from dermoscopy.scoring.comparison import Run, compare, mcnemar, params_that_differ, require_same_images, verdict
from dermoscopy.scoring.metrics import point_metrics, weighted_counts
from tests.support.prediction_tables import drawn_images


def make_run(name: str, table: pd.DataFrame, **params: Any) -> Run:
    return Run(name, params, PREDICTIONS_TTA, table.assign(sha256=table["image_id"]))


def spoilt(table: pd.DataFrame, images: int) -> pd.DataFrame:
    """Return the table with so many images, of those that are right and no nv, taken for nv."""
    chosen = table.index[(table["label"] == table["predicted"]) & (table["label"] != "nv")][:images]
    wrong = table.copy()
    wrong.loc[chosen, wrong.filter(regex="^p_").columns] = [0.0, 0.0, 0.0, 0.0, 1.0]
    wrong.loc[chosen, "predicted"] = "nv"
    return wrong


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return drawn_images(600, skill=2)


class TestCompare:
    """The statistics."""

    def test_differences_are_those_of_the_metrics(self, table: pd.DataFrame) -> None:
        worse = spoilt(table, 40)
        found = compare(make_run("a", table), make_run("b", worse)).metrics
        ours, theirs = point_metrics(table), point_metrics(worse)
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc"):
            assert list(found.loc[name, ["first", "other"]]) == pytest.approx([ours[name], theirs[name]])
            assert found.loc[name, "difference"] == pytest.approx(theirs[name] - ours[name])
        for label in ("akiec", "bcc", "bkl", "mel", "nv"):
            for name in ("recall", "specificity", "f1", "auc"):
                expected = [ours["per_class"][label][name], theirs["per_class"][label][name]]
                assert list(found.loc[f"{label} {name}", ["first", "other"]]) == pytest.approx(expected)
        assert ((found["low"] <= found["difference"] + 1e-12) & (found["difference"] <= found["high"] + 1e-12)).all()

    def test_both_are_drawn_with_the_same_lesions(self, table: pd.DataFrame) -> None:
        worse = spoilt(table, 3)
        row = compare(make_run("a", table), make_run("b", worse)).metrics.loc["accuracy"]
        samples = [
            bootstrap(weighted_counts(images), images["lesion_id"], seed)["accuracy"]
            for images, seed in ((table, 1), (worse, 2))
        ]
        low, high = np.quantile(samples[1] - samples[0], [0.025, 0.975])
        assert len(samples[0]) == DRAWS
        # three of 600 images: paired, that is hardly any spread; with other lesions for each it would be much
        assert row["high"] - row["low"] < (high - low) / 4
        assert row["high"] <= 0

    def test_a_run_does_not_differ_from_itself(self, table: pd.DataFrame) -> None:
        same = compare(make_run("a", table), make_run("b", table))
        assert (same.metrics[["difference", "low", "high"]] == 0).all(axis=None)
        assert (same.p_value, same.mcnemar, same.only_first, same.only_other) == (1, 1, 0, 0)
        assert verdict(make_run("a", table), make_run("b", table), same).startswith("b is not distinguishable from a")

    def test_what_is_much_better_or_worse_is_called_so_both_ways(self, table: pd.DataFrame) -> None:
        good, bad = make_run("good", table), make_run("bad", spoilt(table, 60))
        assert verdict(good, bad, compare(good, bad)).startswith("bad is worse than good: balanced accuracy -0.")
        assert verdict(bad, good, compare(bad, good)).startswith("good is better than bad: balanced accuracy +0.")
        assert "600 images of 3" in verdict(bad, good, compare(bad, good))

    def test_runs_of_equal_skill_are_rarely_told_apart(self) -> None:
        told_apart = 0
        for seed in range(20):
            first, other = (drawn_images(150, seed=seed, skill=1.5), drawn_images(150, seed=seed, skill=1.5))
            noise = np.random.default_rng(100 + seed).random(150)
            # each has other images wrong, equally often
            first.loc[noise < 0.1, "predicted"] = "nv"
            other.loc[noise > 0.9, "predicted"] = "nv"
            pair = make_run("a", first), make_run("b", other)
            told_apart += "not distinguishable" not in verdict(*pair, compare(*pair))
        assert told_apart <= 4  # 1 is expected; more than 4 come by chance three times in a thousand

    def test_a_corrected_p_value_can_take_a_difference_back(self, table: pd.DataFrame) -> None:
        first, other = make_run("a", table), make_run("b", spoilt(table, 60))
        difference = compare(first, other)
        assert "worse" in verdict(first, other, difference, p_corrected=0.049)
        assert "not distinguishable" in verdict(first, other, difference, p_corrected=0.05)

    def test_a_class_of_one_lesion_has_a_difference_without_interval(self, table: pd.DataFrame) -> None:
        alone = table.assign(lesion_id=table["lesion_id"].mask(table["label"] == "akiec", "the only one"))
        row = compare(make_run("a", alone), make_run("b", spoilt(alone, 60))).metrics.loc["akiec recall"]
        assert np.isfinite(row["difference"])
        assert np.isnan([row["low"], row["high"]]).all()

    @pytest.mark.parametrize(("only_first", "only_other"), [(0, 0), (5, 5), (1, 9), (9, 1), (0, 4), (30, 12)])
    def test_mcnemars_p_value_is_that_of_a_fair_coin(self, only_first: int, only_other: int) -> None:
        tail = 2 * binom.cdf(min(only_first, only_other), only_first + only_other, 0.5)
        assert mcnemar(only_first, only_other) == pytest.approx(min(1, tail))

    def test_the_images_that_only_one_has_right_are_counted(self, table: pd.DataFrame) -> None:
        found = compare(make_run("a", spoilt(table, 7)), make_run("b", table))
        assert (found.only_first, found.only_other) == (0, 7)
        assert found.mcnemar == pytest.approx(2 / 2**7)


class TestSameImages:
    """Only what was tested on the same images is compared."""

    def refusal(self, first: pd.DataFrame, other: pd.DataFrame) -> str:
        with pytest.raises(DataError, match=r"^a and b cannot be compared: ") as error:
            require_same_images(make_run("a", first), make_run("b", other))
        return str(error.value)

    def test_the_same_images_pass(self, table: pd.DataFrame) -> None:
        require_same_images(make_run("a", table), make_run("b", spoilt(table, 9)))

    def test_other_images_are_refused(self, table: pd.DataFrame) -> None:
        assert "different images, 600 and 590 with 590 in common" in self.refusal(table, table[10:])

    @pytest.mark.parametrize(("column", "what"), [("label", "labels"), ("lesion_id", "lesions")])
    def test_other_labels_and_lesions_are_refused(self, table: pd.DataFrame, column: str, what: str) -> None:
        changed = table.assign(**{column: table[column].mask(table.index == 5, "other")})
        assert f"1 of their test images have different {what}, the first is test_5" in self.refusal(table, changed)

    def test_other_contents_are_refused(self, table: pd.DataFrame) -> None:
        changed = make_run("b", table)
        changed.test.loc[3, "sha256"] = "other"
        with pytest.raises(DataError, match="different contents, the first is test_3"):
            require_same_images(make_run("a", table), changed)

    def test_other_classes_are_refused(self, table: pd.DataFrame) -> None:
        assert "different classes" in self.refusal(table, table.assign(p_vasc=0.0))


def test_params_that_differ_are_shown_and_what_a_run_lacks_is_empty(table: pd.DataFrame) -> None:
    runs = [
        make_run("a", table, x=1, y="b", z=[1]),
        make_run("b", table, x=1, y=None, z=[1]),
        make_run("c", table, x=1, z=[1], new=0.5),
    ]
    shown = params_that_differ(runs)
    assert shown.to_dict(orient="index") == {
        "y": {"a": "'b'", "b": "None", "c": ""},
        "new": {"a": "", "b": "", "c": "0.5"},
    }


# A project of one stage that writes what the pipeline's stages write, by params of the same names.
PROJECT = """
from pathlib import Path
import yaml
from dermoscopy.data.tables import write_table
from tests.support.prediction_tables import drawn_images

params = yaml.safe_load(Path("params.yaml").read_text())
seed = params["split"]["seed"]
skill = params["train"]["skill"] + {"weak": -1}.get(params["backbone"]["name"], 0)
table = drawn_images(399 + seed, seed, skill=skill)
if params["split"]["test"] == 0:
    table["part"] = "validation"
write_table(table[["image_id", "lesion_id"]].assign(sha256=table["image_id"]), Path("data/manifest.csv"))
write_table(table.drop(columns="lesion_id"), Path("data/predictions_tta.csv"))
one_view = drawn_images(399 + seed, seed, skill=0.3).assign(part=table["part"])
write_table(one_view.drop(columns="lesion_id"), Path("data/predictions.csv"))
"""
OUTS = ["data/manifest.csv", "data/predictions.csv", "data/predictions_tta.csv"]
PARAMS = ["backbone.name", "evaluate.tta", "split.seed", "split.test", "train.skill"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two commits and some experiments on the second; the workspace is at the last one, and not at HEAD."""
    folder = tmp_path_factory.mktemp("compare")
    workspace = Workspace(folder / "project", folder / "cache", {})
    (workspace.folder / "params.yaml").write_text(
        "{backbone: {name: usual}, evaluate: {tta: true}, split: {seed: 1, test: 0.15}, train: {skill: 1.0}}\n"
    )
    (workspace.folder / "make.py").write_text(PROJECT)
    (workspace.folder / "tests").symlink_to(PROJECT / "tests")
    (workspace.folder / ".gitignore").write_text("/data\n__pycache__\n")
    (workspace.folder / "dvc.yaml").unlink()
    options = [*(f"-o{out}" for out in OUTS), *(f"-p{param}" for param in PARAMS), "-dmake.py"]
    workspace.dvc("stage", "add", "--name", "make", *options, "python make.py")
    for message, change in {"first": "skill: 1.0", "second": "skill: 2.5"}.items():
        params = workspace.folder / "params.yaml"
        params.write_text(re.sub(r"skill: [\d.]+", change, params.read_text()))
        workspace.dvc("repro")
        workspace.run("git", "add", "--all")
        workspace.run("git", "commit", "--quiet", "--message", message)
    for name, changes in {
        "other-images": ["split.seed=2"],
        "no-test": ["split.test=0"],
        "one-view": ["evaluate.tta=false"],
        "same": ["train.skill=2.501"],
    }.items():
        workspace.dvc("exp", "run", "--name", name, *(word for c in changes for word in ("-S", c)))
        if name != "same":
            workspace.run("git", "restore", "params.yaml", "dvc.yaml", "dvc.lock")
    return workspace


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
            name: point_metrics(drawn_images(400, seed=1, skill=skill))["balanced_accuracy"]
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

    def test_a_run_without_a_test_part_is_refused(self, project: Workspace) -> None:
        output = self.compare(project, "HEAD", "no-test", status=1)
        assert output.startswith("error: no-test has no test images (split.test = 0)")

    def test_a_name_that_does_not_exist_is_refused_in_one_line(self, project: Workspace) -> None:
        output = self.compare(project, "HEAD", "nothing", status=1)
        assert output.startswith("error: nothing cannot be read (")
        assert output.count("\n") == 1

    def test_a_revision_from_before_the_first_run_is_refused_in_one_line(self, project: Workspace) -> None:
        output = self.compare(project, "HEAD", "HEAD~2", status=1)
        assert output.startswith("error: HEAD~2 ")
        assert output.count("\n") == 1

    def test_predictions_that_the_cache_has_lost_are_refused_in_one_line(self, project: Workspace) -> None:
        cache = project.folder.parent / "cache"
        hidden = cache.rename(cache.with_name("hidden"))
        try:
            output = self.compare(project, "HEAD~1", "HEAD", status=1)
        finally:
            hidden.rename(cache)
        assert output.startswith("error: HEAD~1 cannot be read (")
        assert output.count("\n") == 1

    def test_a_workspace_without_predictions_is_refused_in_one_line(self, project: Workspace) -> None:
        path = project.folder / PREDICTIONS_TTA
        table = pd.read_csv(path)
        path.unlink()
        try:
            output = self.compare(project, "HEAD", "workspace", status=1)
        finally:
            write_table(table, Path(path))
        assert output.startswith("error: data/predictions_tta.csv is missing")

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
