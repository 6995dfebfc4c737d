"""benchmarks/results.json: what each benchmark measured last, and on which machine."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.timing import Row
from dermoscopy.data.tables import write_json

RESULTS = Path(__file__).with_name("results.json")


def read_results() -> dict[str, Any]:
    """Return the content of results.json: for each benchmark its machine, its duration in seconds, and its tables."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


def record(name: str, tables: Mapping[str, list[Row]], seconds: float) -> None:
    """Replace a benchmark's part of results.json."""
    results = read_results() if RESULTS.exists() else {}
    results[name] = {"machine": describe_machine(), "seconds": round(seconds), "tables": tables}
    write_json(results, RESULTS)
    print(f"benchmarks: {name} took {seconds:.0f} s", flush=True)


def describe_machine() -> dict[str, str | int]:
    """Return the processor, how many of its cores may be used, and the versions of what decides the speed."""
    from importlib.metadata import version

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{library: version(library) for library in ("tensorflow", "openvino", "numpy", "opencv-python-headless")},
    }


def processor() -> str:
    """Return the name of the processor, or its architecture where the system does not tell the name."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def print_tables(tables: Mapping[str, list[Row]]) -> None:
    """Print tables, each with its title."""
    for title, rows in tables.items():
        print(f"\n{title}")
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format, na_rep=""))
