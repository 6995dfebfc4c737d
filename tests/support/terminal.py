"""Commands whose messages go to a terminal, and what a user sees there."""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.processes import stage_environment


def shown_on_a_terminal(command: Sequence[str], folder: Path) -> str:
    """Return what a command, run in a folder, writes to stderr where that is a terminal; it must end with status 0."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 120))
    process = subprocess.Popen(command, cwd=folder, env=stage_environment(), stdout=subprocess.DEVNULL, stderr=stderr)
    os.close(stderr)
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal ends on Linux
        while block := os.read(terminal, 65_536):
            shown += block
    os.close(terminal)
    text = shown.decode()
    assert process.wait() == 0, text
    return text
