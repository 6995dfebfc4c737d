"""How long it takes on a fresh machine from `git clone` to a report: `make demo` in a clone of this checkout.

Packages come from the caches of pip and uv where these have them; elsewhere the network decides.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import Line, stage_seconds, timed_lines
from benchmarks.timing import Row
from dermoscopy.runtime.workspace import PROJECT


def measure() -> dict[str, list[Row]]:
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        cloned = timed_lines(["git", "clone", "--quiet", str(PROJECT), str(clone)], PROJECT)[-1][0]
        lines = timed_lines(["make", "demo"], clone)
    parts = {"git clone": cloned, **demo_parts(lines)}
    rows: list[Row] = [{"part": part, "s": seconds} for part, seconds in parts.items()]
    return {"From git clone to the report of make demo": [*rows, {"part": "in all", "s": sum(parts.values())}]}


def demo_parts(lines: Sequence[Line]) -> dict[str, float]:
    """Return the seconds of each part of `make demo`, from its output: the environment, DVC, and each stage."""
    begun = next(seconds for seconds, line in lines if re.match("Running dvc repro", line))
    stages = stage_seconds(lines)
    return {"environment": begun, "DVC": lines[-1][0] - begun - sum(stages.values()), **stages}
