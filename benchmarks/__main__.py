"""Run benchmarks, print their tables, and write the results to benchmarks/results.json.

Each benchmark is a module of this package with a function `measure`, which returns tables: rows by title. A benchmark
that is named is run, and its part of results.json replaced; without a name all are run but those of LONG.
"""

import argparse
import os
import time
from importlib import import_module

from benchmarks.results import print_tables, read_results, record
from benchmarks.targets import as_markdown
from dermoscopy.runtime.commands import run_command

BENCHMARKS = (
    "startup",
    "variation",
    "prediction",
    "features_stage",
    "backbones",
    "original_study",
    "first_result",
)
# run only when they are named: they take long, and kaggle_run needs real data
LONG = ("growth", "growth_of_manifest", "growth_of_tools", "kaggle_run", "coverage", "choices", "cluster")


def main() -> None:
    known = ", ".join(BENCHMARKS + LONG)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {known}")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - {*BENCHMARKS, *LONG}:
        parser.error(f"unknown benchmark {min(unknown)}: choose from {known}")

    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # modules are compiled once, not in every process
    for name in names:
        start = time.monotonic()
        tables = import_module(f"benchmarks.{name}").measure()
        print_tables(tables)
        record(name, tables, time.monotonic() - start)
    print(f"\n{as_markdown(read_results())}")


if __name__ == "__main__":
    run_command(main)
