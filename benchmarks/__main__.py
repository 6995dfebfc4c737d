"""Run the benchmarks, print their tables, and write benchmarks/results.json.

Each benchmark is a module of this package with a function `measure`, which returns tables: rows by title. Those that
are named run again and replace their part of results.json; without a name, all but those of growth run.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import RESULTS
from benchmarks.targets import as_markdown
from benchmarks.timing import Row
from dermoscopy.data.tables import write_json
from dermoscopy.runtime.errors import run

# What runs only by its name, because it takes long.
LONG = ("growth", "growth_of_manifest")
BENCHMARKS = (
    "startup",
    "variation",
    "prediction",
    "features_stage",
    "backbones",
    "original_study",
    "first_result",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(BENCHMARKS + LONG)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - {*BENCHMARKS, *LONG}:
        parser.error(f"there is no benchmark {min(unknown)}: choose from {', '.join(BENCHMARKS + LONG)}")

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Python compiles a module once, wherever it may keep the result
    for name in names:
        start = time.monotonic()
        tables = import_module(f"benchmarks.{name}").measure()
        print_tables(tables)
        record(name, tables, time.monotonic() - start)
    print(f"\n{as_markdown(json.loads(RESULTS.read_text(encoding='utf-8')))}")


def record(name: str, tables: Mapping[str, list[Row]], seconds: float) -> None:
    """Replace the part of results.json that a benchmark has."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[name] = {"machine": describe_machine(), "seconds": round(seconds), "tables": tables}
    write_json(results, RESULTS)
    print(f"benchmarks: {name} took {seconds:.0f} s", flush=True)


def describe_machine() -> dict[str, str | int | None]:
    """Return the processor, the number of cores that may be used, and the versions that decide the speed."""
    from importlib.metadata import version

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{library: version(library) for library in ("tensorflow", "openvino", "numpy", "opencv-python-headless")},
    }


def processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def print_tables(tables: Mapping[str, list[Row]]) -> None:
    """Print tables, rows by title."""
    for title, rows in tables.items():
        print(f"\n{title}")
        print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format, na_rep=""))


if __name__ == "__main__":
    run(main)
