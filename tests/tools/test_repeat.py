"""The command that trains the head with several seeds: what it refuses, and what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import psutil  # type: ignore[import-untyped] # DVC brings it, and nothing its stubs
import pytest

from dermoscopy.runtime.errors import ParamsError
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.metrics import point_metrics
from tests.support.labelled_features import DIM, IMAGES, make_manifest, write_project
from tests.support.machine import wait_until
from tests.support.params_file import write_params
from tests.support.prediction_tables import eight_images
from tests.support.tool import run_tool
from tools import repeat
from tools.repeat import changed_params, nested, run_table, summary_table


@pytest.mark.parametrize("count", ["1", "101", "many"])
def test_a_wrong_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], count: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["repeat", "-n", count])
    with pytest.raises(SystemExit) as end:
        repeat.main()
    assert end.value.code == 2
    assert "-n" in capsys.readouterr().err.splitlines()[-1]


class TestChangedParams:
    """Params as `dvc exp run -S` changes them."""

    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_params(tmp_path, {"train": {"dropout": 0.4}})

    def test_a_change_is_applied_and_the_file_stays(self, tmp_path: Path) -> None:
        text = (tmp_path / "params.yaml").read_text()
        params = changed_params(["train.dropout=0.1", "split.group=image", "evaluate.malignant=[mel]"])
        assert (params.train.dropout, params.split.group) == (0.1, "image")
        assert params.evaluate.malignant == ["mel"]
        assert changed_params([]).train.dropout == 0.4
        assert changed_params(["augmentation.views=1"]).augmentation.views == 1
        assert (tmp_path / "params.yaml").read_text() == text

    @pytest.mark.parametrize(
        "change",
        [
            *("backbone.name=DenseNet121", "data.source=sample", "report.gallery=1", "train.seed=4", "split.seed=4"),
            *("augmentation.rotation=0.1", "augmentation.views=9"),
        ],
    )
    def test_what_is_not_repeated_is_refused(self, change: str) -> None:
        with pytest.raises(ParamsError, match=f"^{change.split('=')[0]} cannot be changed here"):
            changed_params([change])

    @pytest.mark.parametrize("change", ["train.dropot=0.1", "dropout", "train.dropout=0.1,0.2", "train.dropout=???"])
    def test_what_is_no_change_is_refused_by_name(self, change: str) -> None:
        with pytest.raises(ParamsError, match=r"no change of params, as section\.key=value: ") as error:
            changed_params([change])
        assert str(error.value).startswith(change)

    def test_a_value_out_of_range_is_refused_as_in_the_file(self) -> None:
        with pytest.raises(ParamsError, match=r"^params\.yaml: train\.dropout = 2"):
            changed_params(["train.dropout=2"])


def test_the_tables_have_each_run_with_mean_and_standard_deviation() -> None:
    metrics = [point_metrics(eight_images()).model_copy(update={"accuracy": value}) for value in (0.5, 0.7)]
    runs = run_table(metrics)
    assert list(runs.index) == [1, 2]
    assert "log_loss_calibrated" not in runs  # it was not computed
    assert list(summary_table(runs).loc["accuracy"]) == pytest.approx([0.5, 0.7, 0.6, 0.02**0.5])
    mean = nested(pd.concat({"test": runs}, axis="columns").mean())
    assert mean["test"]["accuracy"] == pytest.approx(0.6)


@pytest.mark.slow
def test_two_runs_of_the_command_give_the_same_bytes_and_change_nothing_else(tmp_path: Path) -> None:
    manifest = make_manifest()
    features = np.random.default_rng(0).normal(size=(IMAGES, 2, DIM))
    features[..., 0] += 8 * pd.Categorical(manifest["label"]).codes[:, None]
    write_project(tmp_path, manifest, features)
    (tmp_path / "metrics").mkdir()  # it is in Git
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    output = run_tool("repeat", tmp_path, "-n", "2", "-S", "train.dropout=0.1").out
    assert "repeat: 2 splits and trainings; all numbers are in metrics/repetitions.json" in output
    text = (tmp_path / "metrics/repetitions.json").read_text()
    result = json.loads(text)
    assert result["params"] == ["train.dropout=0.1"]
    assert result["mean"]["test"]["accuracy"] > 0.8  # chance is a third
    assert [run["seed"] for run in result["runs"]] == [1, 2]
    assert all(1 <= run["epochs"] <= 30 for run in result["runs"])
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {tmp_path / "metrics/repetitions.json"}
    run_tool("repeat", tmp_path, "-n", "2", "-S", "train.dropout=0.1")
    assert (tmp_path / "metrics/repetitions.json").read_text() == text
    on_stdout = run_tool("repeat", tmp_path, "-n", "2", "-S", "train.dropout=0.1", "--out", "-")
    assert on_stdout.out == text
    assert "repeat: 2 splits and trainings; all numbers are in standard output" in on_stdout.err
    refusal = run_tool("repeat", tmp_path, "-n", "2", "--out", "missing/new.json", status=1).err
    assert refusal.splitlines()[-1].startswith("error: missing/new.json: the folder ")
    write_params(tmp_path, {"augmentation": {"seed": 7}})
    refusal = run_tool("repeat", tmp_path, status=1).err
    assert refusal.startswith("error: data/features is of other images, another backbone or other views: ")
    assert refusal.count("\n") == 1


@pytest.mark.slow
def test_no_process_is_left_when_the_command_is_killed(tmp_path: Path) -> None:
    endless = {"train": {"epochs": 10_000, "patience": 10_000}}
    write_project(tmp_path, make_manifest(), np.zeros((IMAGES, 1, DIM)), endless)
    (tmp_path / "metrics").mkdir()
    command = [sys.executable, "-m", "tools.repeat", "-n", "2"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(PROJECT)}) as process:
        parent = psutil.Process(process.pid)
        wait_until(lambda: sum("spawn_main" in " ".join(child.cmdline()) for child in parent.children()) == 2)
        children = parent.children()
        process.kill()
    assert psutil.wait_procs(children, timeout=60)[1] == []
