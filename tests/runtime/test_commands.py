"""How a command ends when something goes wrong, and when the user changes params.yaml while a stage runs."""

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dermoscopy.runtime.commands import run_command, run_stage, sections_of
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Data, Params, Split, Train
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import PARAMS, write_params

NEW: dict[str, dict[str, Any]] = {"train": {"dropout": 0.1}, "evaluate": {"seed": 5}}


def ends_with(run: Callable[[], None]) -> str:
    """Return what a command prints as it fails: its exit code is then 1, or a number that stands alone."""
    with pytest.raises(SystemExit) as end:
        run()
    return str(end.value.code)


def fail(error: BaseException) -> str:
    """Return what is printed at the end of a command that raises this error."""

    def command() -> None:
        raise error

    return ends_with(lambda: run_command(command))


def test_what_the_user_can_fix_is_one_line() -> None:
    assert fail(DataError("a table\n  is odd")) == "error: a table is odd"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EISDIR, errno.EIO])
def test_a_file_that_cannot_be_read_or_written_is_one_line_that_names_it(number: int) -> None:
    line = fail(OSError(number, os.strerror(number), "data/split.csv"))
    assert line == f"error: {os.strerror(number)}: data/split.csv: fix this and run again"


@pytest.mark.parametrize("name", ["data/split.csv", None])
def test_a_full_disk_is_one_line_that_says_how_much_is_free(name: str | None) -> None:
    line = fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name))
    place = name or str(Path.cwd())
    assert line.startswith(f"error: No space left on device: {place}: it needs more than the ")
    assert re.search(r"[\d,.]+ MB that are free there: fix this and run again$", line)


@pytest.mark.parametrize("error", [KeyError("nothing"), OSError("of a library"), OSError(errno.EBADF, "bad")])
def test_a_fault_of_ours_is_not_hidden(error: Exception) -> None:
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        run_command(command)


def test_an_interrupt_has_its_own_exit_code() -> None:
    assert fail(KeyboardInterrupt()) == "130"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:strict"])
def test_what_a_console_cannot_show_is_escaped(encoding: str) -> None:
    code = (
        "import sys; from dermoscopy.runtime.commands import run_command\n"
        "run_command(lambda: [print('皮膚.jpg', file=stream) for stream in (sys.stdout, sys.stderr)])"
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, check=True)
    assert result.stdout == result.stderr == rb"\u76ae\u819a.jpg" + b"\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a params.yaml, in which this process runs."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, {})
    return tmp_path


def test_a_stage_is_given_the_sections_that_its_arguments_name(project: Path) -> None:
    given: list[object] = []

    def main(split: Split, data: Data) -> None:
        given.extend([split, data])

    run_stage(main)
    assert given == [PARAMS.split, PARAMS.data]
    assert list(sections_of(main)) == ["split", "data"]


def test_a_stage_may_ask_for_all_params(project: Path) -> None:
    given: list[object] = []

    def main(params: Params) -> None:
        given.append(params)

    run_stage(main)
    assert given == [PARAMS]


@pytest.mark.parametrize("changed", ["split", "train"])
def test_a_param_that_changes_while_its_stage_runs_ends_in_one_line_that_names_it(project: Path, changed: str) -> None:
    def main(split: Split, train: Train) -> None:
        write_params(project, {changed: {"seed": 77}})

    line = ends_with(lambda: run_stage(main))
    assert line == f"error: params.yaml: {changed}.seed was changed while the stage ran: run dvc repro again"


def test_a_stage_that_is_given_all_params_minds_a_change_of_any(project: Path) -> None:
    def main(params: Params) -> None:
        write_params(project, NEW)

    assert "train was changed while the stage ran" in ends_with(lambda: run_stage(main))


def test_sections_of_other_stages_may_change_while_a_stage_runs(project: Path) -> None:
    def main(split: Split) -> None:
        write_params(project, NEW)

    run_stage(main)


def test_params_that_become_wrong_while_a_stage_runs_end_in_one_line(project: Path) -> None:
    def main(split: Split) -> None:
        write_params(project, {"split": {"seed": -1}})

    assert ends_with(lambda: run_stage(main)).startswith("error: params.yaml: split.seed = -1: ")


def test_the_fault_of_a_stage_comes_before_a_change_of_its_params(project: Path) -> None:
    def main(split: Split) -> None:
        write_params(project, {"split": {"seed": 77}})
        raise DataError("the table is odd")

    assert ends_with(lambda: run_stage(main)) == "error: the table is odd"


@pytest.mark.slow
def test_a_real_stage_whose_params_change_ends_with_exit_code_1_and_one_line(project: Path) -> None:
    changes: dict[str, dict[str, Any]] = {"data": {"source": "sample", "sample_images": 100}}
    write_params(project, changes)
    stage = subprocess.Popen(
        [sys.executable, "-m", "stages.download"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(project.glob("data/.partial.raw/images/*")):  # it has read its params and draws
            assert time.monotonic() < deadline
            time.sleep(0.01)
        write_params(project, changes | {"data": {**changes["data"], "seed": 77}})
        _, err = stage.communicate(timeout=120)
    finally:
        stage.kill()
    assert stage.returncode == 1
    assert err.splitlines()[-1] == "error: params.yaml: data.seed was changed while the stage ran: run dvc repro again"
    assert "Traceback" not in err
