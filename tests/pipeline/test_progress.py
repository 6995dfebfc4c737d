"""What stages and tools that take seconds say meanwhile: a bar on a terminal, nothing in a log."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.processes import stage_command, stage_environment
from tests.support.finished_run import PARAMS, fill_run
from tests.support.labelled_features import DIM, IMAGES, make_manifest, write_project
from tests.support.params_file import write_params
from tests.support.stage_project import run_stage
from tests.support.terminal import shown_on_a_terminal

pytestmark = pytest.mark.slow

SAYS = {
    "backbone": ["backbone: building MobileNetV2 and converting it: up to a minute"],
    "train": ["train: ", "/20 [", "eval/loss="],
    "evaluate": ["bootstrap: 100%", "4000/4000"],
    "report": ["gallery: 100%"],
}
AT_THE_LAST_EPOCH = (
    "warning: train: training ended at the last allowed epoch (3), while the validation loss might still fall: raise "
    "train.epochs"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """A finished run, whose stages the tests of this module run again."""
    folder = tmp_path_factory.mktemp("progress")
    fill_run(folder, backbones["first"])
    return folder


@pytest.mark.parametrize("stage", SAYS)
def test_a_stage_of_seconds_says_on_a_terminal_how_far_it_is_and_nothing_in_a_log(run: Path, stage: str) -> None:
    shown = shown_on_a_terminal(stage_command(stage), run)
    assert [words for words in SAYS[stage] if words not in shown] == []
    logged = run_stage(run, stage)
    assert logged.returncode == 0
    assert [line for line in logged.stderr.splitlines() if not line.startswith("warning: ")] == []


def test_tools_that_train_again_count_their_trainings(tmp_path: Path) -> None:
    write_project(tmp_path, make_manifest(), np.random.default_rng(0).normal(size=(IMAGES, 1, DIM)))
    command = [sys.executable, "-m", "tools.crossvalidate", "--folds", "2"]
    shown = shown_on_a_terminal(command, tmp_path)
    assert [words for words in ("trainings: 100%", "2/2", "training/s", "2000/2000") if words not in shown] == []
    logged = subprocess.run(command, cwd=tmp_path, env=stage_environment(), capture_output=True, text=True, check=True)
    assert logged.stderr == ""


@pytest.mark.parametrize(
    ("changes", "warnings"), [({"epochs": 3}, [AT_THE_LAST_EPOCH]), ({"patience": 2, "learning_rate": 1.0}, [])]
)
def test_training_warns_where_the_number_of_epochs_ended_it(
    run: Path, changes: dict[str, Any], warnings: list[str]
) -> None:
    write_params(run, PARAMS | {"train": PARAMS["train"] | changes})
    assert run_stage(run, "train").stderr.splitlines() == warnings
