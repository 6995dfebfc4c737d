"""Write the figures of the report as PDF and SVG, and its main tables for LaTeX, for a paper or a thesis.

The curves of all classes are in one figure. The tables, to \\input, need the package booktabs.
"""

import argparse
from pathlib import Path

from dermoscopy.page.figures import FORMATS, read_results, write_figures
from dermoscopy.page.latex import write_tables
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import enumerated
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import FIGURES
from dermoscopy.scoring.metrics import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.figures", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FIGURES, help="where to (default: %(default)s)")
    folder = parser.parse_args().folder
    results = read_results(load_params().evaluate.prior_exponent)
    figures = write_figures(results, folder)
    tables = write_tables(read_metrics(), results.subgroups, folder)
    print(f"figures: {folder} has {enumerated(figures)} as {' and '.join(FORMATS)}, and {enumerated(tables)} as tex")


if __name__ == "__main__":
    run_command(main)
