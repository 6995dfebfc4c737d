"""Commands as processes: how long they take, the memory they need, and when each line of their output came."""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dermoscopy.runtime.workspace import PROJECT, environment

# Prints the seconds, the processor seconds, and the peak memory in kilobytes. A small process of its own runs the
# command, because a child's peak memory includes what its parent had when the child was started.
MEASURE = """
import resource, subprocess, sys, time
start = time.perf_counter()
status = subprocess.call(sys.argv[1:])
print(time.perf_counter() - start)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime)
print(usage.ru_maxrss)
sys.exit(status)
"""

Line = tuple[float, str]


class Cost(NamedTuple):
    """What a process took: seconds on the clock and of processor time, and megabytes of resident memory at its peak."""

    seconds: float
    processor: float
    megabytes: float


def stage_command(stage: str) -> list[str]:
    """Return the command that runs a stage."""
    return [sys.executable, "-m", f"stages.{stage}"]


def stage_environment() -> dict[str, str]:
    """Return an environment in which stages and tools of this checkout can be run in any folder."""
    return environment() | {"PYTHONPATH": str(PROJECT)}


def measured(command: Sequence[str]) -> list[str]:
    """Return a command that runs another and then prints seconds, processor seconds and peak kilobytes, a line each."""
    return [sys.executable, "-c", MEASURE, *command]


def measure_command(command: Sequence[str], folder: Path) -> Cost:
    """Return what a command cost that was run in a folder; a CalledProcessError if it failed."""
    result = subprocess.run(
        measured(command), cwd=folder, env=stage_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, processor, kilobytes = result.stdout.splitlines()[-3:]
    return Cost(float(seconds), float(processor), int(kilobytes) / 1000)


def measure_stage(folder: Path, stage: str) -> Cost:
    """Return what a stage cost that was run in a folder; a CalledProcessError if it failed."""
    return measure_command(stage_command(stage), folder)


def timed_lines(command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None) -> list[Line]:
    """Run a command and return each line of its output, with the seconds from the start to its arrival.

    The last line is empty and tells when the command ended; a CalledProcessError if it failed.

    Args:
        command: the program and its arguments.
        folder: in which it runs.
        variables: of its environment, where they differ.
    """
    start = time.perf_counter()
    lines = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**environment(), **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [(time.perf_counter() - start, line.rstrip("\n")) for line in process.stdout]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, "\n".join(line for _, line in lines))
    return [*lines, (time.perf_counter() - start, "")]


def stage_seconds(lines: Sequence[Line]) -> dict[str, float]:
    """Return the seconds of each stage that DVC ran, from the lines of `timed_lines`.

    A stage begins where DVC says so and ends with the last of its own lines, `NAME: ...`, which arrive when its process
    ends: what is printed into a pipe waits in the process until then.
    """
    begun, ended = {}, {}
    for seconds, line in lines:
        if match := re.match(r"Running stage '(\w+)'", line):
            begun[match[1]] = seconds
        elif (name := line.partition(":")[0]) in begun:
            ended[name] = seconds
    return {name: ended[name] - begun[name] for name in begun}
