"""Progress bars: on a terminal, and in a log only where that is asked for; and the bars of pip and uv."""

import subprocess
import sys
from pathlib import Path

import pytest

from dermoscopy.runtime.workspace import PROJECT
from tests.support.terminal import shown_on_a_terminal

COUNT = """
import sys
from dermoscopy.runtime.progress import progress, tick
with progress("work", 3, "step", in_logs=sys.argv[1] == "in logs") as bar:
    assert list(tick("abc", bar)) == ["a", "b", "c"]
assert not {"keras", "tensorflow"} & sys.modules.keys()
"""


def in_a_log(command: list[str], folder: Path) -> str:
    """Run a command whose stderr is a pipe, not a terminal, and return what it writes there."""
    return subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, check=True).stderr


@pytest.mark.parametrize("where", ["in logs", "on terminals"])
def test_a_bar_is_shown_on_a_terminal_and_in_a_log_only_where_that_is_asked_for(where: str) -> None:
    command = [sys.executable, "-c", COUNT, where]
    shown = shown_on_a_terminal(command, PROJECT)
    assert "work: 100%" in shown
    assert "3/3" in shown
    assert ("3/3" in in_a_log(command, PROJECT)) == (where == "in logs")


def test_making_the_environment_shows_progress_on_a_terminal_and_is_quiet_in_a_log(tmp_path: Path) -> None:
    # make prints its commands to stdout, which goes where stderr goes
    command = f"make --dry-run --directory={PROJECT} VENV={tmp_path} {tmp_path}/bin/.installed >&2"
    shown, logged = shown_on_a_terminal(["sh", "-c", command], PROJECT), in_a_log(["sh", "-c", command], PROJECT)
    assert "uv pip install" in shown
    assert "--quiet" not in shown
    assert logged.count("--quiet") == 2
