"""A project in a folder of its own, with real Git and real DVC."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dermoscopy.runtime.paths import METRICS
from dermoscopy.runtime.workspace import environment, make_workspace


class Workspace:
    """A project made for one purpose.

    Attributes:
        folder: its top folder.
    """

    def __init__(self, folder: Path, cache: Path, changes: dict[str, dict[str, Any]]) -> None:
        """Copy the pipeline into a folder, change some params, by section and key, and commit it.

        Args:
            folder: it must not exist.
            cache: DVC's cache, which several projects may share.
            changes: the values to change.
        """
        self.folder = folder
        make_workspace(folder, changes)
        self.run("git", "init", "--quiet")
        self.run("git", "config", "user.name", "tester")
        self.run("git", "config", "user.email", "tester@example.org")
        self.dvc("config", "--local", "cache.dir", str(cache))
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", "pipeline")

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command in the project and return stdout and stderr; it must end with this exit status."""
        result = subprocess.run(
            command, cwd=self.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        output = result.stdout.decode(errors="replace")
        assert result.returncode == status, f"{command} ended with {result.returncode}:\n{output}"
        return output

    def dvc(self, *arguments: str, status: int = 0) -> str:
        """Run DVC."""
        return self.run(sys.executable, "-m", "dvc", *arguments, status=status)

    def python(self, *arguments: str, status: int = 0) -> str:
        """Run Python."""
        return self.run(sys.executable, *arguments, status=status)

    def experiment(self, *changes: str) -> list[str]:
        """Run `dvc exp run` with changed params, each `section.key=value`; return the stages whose command DVC ran."""
        return executed(self.dvc("exp", "run", *(word for change in changes for word in ("-S", change))))

    def metrics(self) -> dict[str, Any]:
        """Return the metrics of each part, as the evaluate stage wrote them."""
        return dict(json.loads((self.folder / METRICS).read_text()))

    def finish_queue(self, seconds: float = 300) -> str:
        """Start the experiment queue, wait until it is empty, and return its status."""
        self.dvc("queue", "start")
        deadline = time.monotonic() + seconds
        while re.search("Queued|Running", status := self.dvc("queue", "status")):
            assert time.monotonic() < deadline, status
            time.sleep(2)
        return status


def executed(output: str) -> list[str]:
    """Return the stages whose command DVC ran, from its output; without `listing`, which always runs."""
    return [stage for stage in re.findall(r"Running stage '(\w+)'", output) if stage != "listing"]
