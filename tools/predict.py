"""Class probabilities of new images, from the trained head and the backbone.

For research only: this is not a medical device. Run from the top folder of the project, after dvc repro.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.tables import write_table
from dermoscopy.model.classifier import Classifier, image_files
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError, one_line
from dermoscopy.runtime.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--tta", action="store_true", help="average over the views that the head was trained with")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table to FILE instead of printing it")
    arguments = parser.parse_args()

    configure_image_libraries()
    params = load_params()
    files = image_files(arguments.paths)
    tables: list[pd.DataFrame] = []
    for table, unreadable in Classifier(params.evaluate.prior_exponent).predict_files(files, arguments.tta):
        for line in unreadable:
            print(f"error: {one_line(line)}", file=sys.stderr)
        if table.empty:
            continue
        tables.append(table)
        if arguments.csv is None:
            print(table.to_string(index=False, header=len(tables) == 1, float_format="%.4f"), flush=True)
    if tables and arguments.csv is not None:
        write_table(pd.concat(tables), arguments.csv)
    unread = len(files) - sum(map(len, tables))
    if unread:
        raise PipelineError(f"{unread} of {len(files)} images could not be read, see above")


if __name__ == "__main__":
    run_command(main)
