"""A tool run as a command in a folder, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from dermoscopy.runtime.workspace import PROJECT


class Output(NamedTuple):
    out: str
    err: str


def run_tool(name: str, folder: Path, *options: str, status: int = 0) -> Output:
    """Run `python -m tools.NAME` in a folder and return what it prints; it must end with this exit status."""
    result = subprocess.run(
        [sys.executable, "-m", f"tools.{name}", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return Output(result.stdout, result.stderr)
