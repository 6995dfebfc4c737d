"""Class probabilities of new images, from the trained head and the backbone.

For research only: this is not a medical device. Run from the top folder of the project, after dvc repro.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from dermoscopy.data.diagnoses import malignant_classes
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.tables import write_table
from dermoscopy.model.classifier import Classifier, image_files
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError, one_line
from dermoscopy.runtime.files import standard_stream, user_output
from dermoscopy.runtime.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average over the views that the head was trained with, or not; default: as the report, evaluate.tta",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the table to FILE, - for standard output, instead of showing it"
    )
    arguments = parser.parse_args()

    configure_image_libraries()
    evaluate = load_params().evaluate
    found = image_files(arguments.paths)
    files = found.files
    for line in found.warnings:
        print(f"warning: predict: {one_line(line)}", file=sys.stderr)
    tables: list[pd.DataFrame] = []
    with user_output(arguments.csv) if arguments.csv else nullcontext() as path:
        classifier = Classifier(evaluate.prior_exponent)
        tta = evaluate.tta if arguments.tta is None else arguments.tta
        print(f"predict: {views_in_words(classifier.views, tta, evaluate.tta)}", file=sys.stderr)
        malignant, explanation = classes_to_sum(classifier.classes, evaluate.malignant)
        print(f"predict: {explanation}", file=sys.stderr, flush=True)
        for table, unreadable in classifier.predict_files(files, tta):
            with tqdm.external_write_mode():  # the bar is on the same terminal
                for line in unreadable:
                    print(f"error: {one_line(line)}", file=sys.stderr)
                if table.empty:
                    continue
                tables.append(with_sum(table, malignant))
                if path is None:
                    header = len(tables) == 1
                    print(tables[-1].to_string(index=False, header=header, float_format="%.4f"), flush=True)
        if not tables:
            raise PipelineError("no image could be read, see above")
        if path is not None:
            write_table(pd.concat(tables), path)
    if arguments.csv:
        where = "standard output" if standard_stream(arguments.csv) == 1 else arguments.csv
        print(f"predict: {sum(map(len, tables))} images are in {where}", file=sys.stderr)
    unread = len(files) - sum(map(len, tables))
    if unread:
        raise PipelineError(f"{unread} of {len(files)} images could not be read, see above")


def views_in_words(views: int, tta: bool, report_tta: bool) -> str:
    """Return which of the views of an image are predicted, and whether the report scores the same."""
    of_report, chosen = (
        f"the mean over {views} views of each image" if averaged and views > 1 else "each image alone, without views"
        for averaged in (report_tta, tta)
    )
    if chosen == of_report:
        return f"{chosen}, as the report scores (evaluate.tta)"
    return f"{chosen}; the report scores {of_report} (evaluate.tta)"


def classes_to_sum(classes: list[str], named: Sequence[str] | None) -> tuple[list[str], str]:
    """Return the classes whose sum is `p_malignant`, none where it cannot be said, and a sentence that explains it.

    Args:
        classes: that the model knows.
        named: `evaluate.malignant`.
    """
    malignant, unknown = malignant_classes(classes, named)
    if unknown:
        reason = f"evaluate.malignant must name the malignant classes, for {', '.join(unknown)} may be malignant or not"
    elif not malignant:
        reason = "no class of the model is malignant (evaluate.malignant)"
    elif "malignant" in classes and malignant != ["malignant"]:
        reason = "a class has the name malignant, and others are malignant too (evaluate.malignant)"
    else:
        return malignant, f"p_malignant is the sum of {', '.join(malignant)}, as the screening metrics take it"
    return [], f"there is no column p_malignant: {reason}"


def with_sum(predictions: pd.DataFrame, malignant: list[str]) -> pd.DataFrame:
    """Return predictions with `p_malignant`, the sum of the probabilities of some classes, if there are any."""
    if not malignant:
        return predictions
    summed = predictions[[f"p_{name}" for name in malignant]].to_numpy(np.float64).sum(axis=1)
    return predictions.assign(p_malignant=summed)


if __name__ == "__main__":
    run_command(main)
