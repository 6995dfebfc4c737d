"""Class probabilities of new images, from the trained head and the backbone.

For research only: this is not a medical device. Run from the top folder of the project, after dvc repro. With --models
the probabilities are the mean of several models, Git revisions or DVC experiments; nothing is checked out.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.data.diagnoses import malignant_classes
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.tables import write_table
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.classifier import Classifier, image_files
from dermoscopy.model.clinical_input import VARIABLES, read_clinical
from dermoscopy.model.head import load_head
from dermoscopy.model.similar import SIMILAR, TrainingImages
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError, enumerated, one_line
from dermoscopy.runtime.files import standard_stream, user_output
from dermoscopy.runtime.params import Columns, load_params
from dermoscopy.scoring.trained_models import members_of, models_in_words


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="after the images: revisions, experiments or workspace, whose mean is predicted; default: workspace",
    )
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average over the views that the head was trained with, or not; default: as its report, evaluate.tta",
    )
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the table to FILE, - for standard output, instead of showing it"
    )
    parser.add_argument("--age", type=years, metavar="YEARS", help="of the patient, in all images: 0 to 120")
    parser.add_argument("--sex", type=category, metavar="TEXT", help="of the patient, in all images")
    parser.add_argument("--localization", type=category, metavar="TEXT", help="of the lesion, in all images")
    parser.add_argument(
        "--clinical",
        type=Path,
        metavar="TABLE",
        help="a CSV file with the name of each image and age, sex or localization, in the form of a label table",
    )
    parser.add_argument(
        "--similar",
        action="store_true",
        help=f"name the {SIMILAR} most similar training images of each, and warn of one that is unlike all of them",
    )
    arguments = parser.parse_args()
    if arguments.similar and arguments.models:
        parser.error("--similar searches the training images of the workspace: leave out --models")
    if arguments.clinical and values_for_all(arguments):
        parser.error("--clinical has the values of each image: leave out --age, --sex and --localization")

    configure_image_libraries()
    params = load_params()
    evaluate = params.evaluate
    found = image_files(arguments.paths)
    files = found.files
    for line in found.warnings:
        print(f"warning: predict: {one_line(line)}", file=sys.stderr)
    known = clinical_of_files(arguments, files, params.data.columns)
    tables: list[pd.DataFrame] = []
    with user_output(arguments.csv) if arguments.csv else nullcontext() as path:
        with members_of(arguments.models, evaluate) as members:
            classifier = Classifier(members)
        if arguments.models:
            print(f"predict: {one_line(models_in_words(arguments.models))}", file=sys.stderr)
        views = views_in_words(classifier.views(arguments.tta), classifier.views(None))
        print(f"predict: {one_line(views)}", file=sys.stderr)
        malignant, explanation = classes_to_sum(classifier.classes, evaluate.malignant)
        for line in [explanation, *classifier.remarks(known)]:
            print(f"predict: {one_line(line)}", file=sys.stderr, flush=True)
        training = TrainingImages.read(*load_head(), FeatureReader(views=0)) if arguments.similar else None
        for table, unreadable, _, features in classifier.predict_files(files, arguments.tta, known):
            with tqdm.external_write_mode():  # the bar is on the same terminal
                for line in unreadable:
                    print(f"error: {one_line(line)}", file=sys.stderr)
                if table.empty:
                    continue
                shown = with_sum(table, malignant)
                tables.append(shown)
                if path is None:
                    header = len(tables) == 1
                    print(shown.to_string(index=False, header=header, float_format="%.4f"), flush=True)
                if training:
                    tables[-1] = with_similar(shown, training, features)
                    for line in unlike_in_words(tables[-1], training.limit):
                        print(f"warning: predict: {one_line(line)}", file=sys.stderr)
                    if path is None:
                        print("\n".join(map(one_line, similar_in_words(tables[-1]))), flush=True)
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


def years(text: str) -> float:
    """Return an age in years; argparse's error where it is not a number of 0 to 120."""
    try:
        age = float(text)
    except ValueError:
        age = float("nan")
    if not 0 <= age <= 120:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age of 0 to 120 years")
    return age


def category(text: str) -> str:
    """Return a sex or localization as label tables are read: lower-case, in NFC, without blanks around."""
    return normalize("NFC", text).strip().lower()


def values_for_all(arguments: argparse.Namespace) -> dict[str, float | str]:
    """Return the clinical variables that are given for all images."""
    values = {variable: getattr(arguments, variable) for variable in VARIABLES}
    return {variable: value for variable, value in values.items() if value is not None}


def clinical_of_files(arguments: argparse.Namespace, files: Sequence[Path], columns: Columns) -> pd.DataFrame:
    """Return those of `age, sex, localization` that the user gives, a row a file, see `read_clinical`."""
    if arguments.clinical:
        return read_clinical(arguments.clinical, files, columns)
    return pd.DataFrame(values_for_all(arguments), index=range(len(files)))


def views_in_words(views: Mapping[str | None, int], scored: Mapping[str | None, int]) -> str:
    """Return which views of an image are predicted, and whether the reports score the same.

    Args:
        views: how many are averaged, by name of the model.
        scored: the same for the reports.
    """
    chosen = _mean_over(views.values())
    others = {str(name): scored[name] for name in views if scored[name] != views[name]}
    if not others:
        return f"{chosen}, as {'the report scores' if len(views) == 1 else 'their reports score'} (evaluate.tta)"
    reports = "the report" if len(views) == 1 else f"the report of {enumerated(others)}"
    return f"{chosen}; {reports} scores {_mean_over(others.values())} (evaluate.tta)"


def _mean_over(views: Iterable[int]) -> str:
    numbers = sorted(set(views))
    if numbers == [1]:
        return "each image alone, without views"
    return f"the mean over {' or '.join(map(str, numbers))} views of each image"


def classes_to_sum(classes: list[str], named: Sequence[str] | None) -> tuple[list[str], str]:
    """Return the classes whose sum is `p_malignant`, none where it cannot be said, and a sentence that explains it.

    Args:
        classes: that the model knows.
        named: `evaluate.malignant`.
    """
    malignant, unknown = malignant_classes(classes, named)
    if unknown:
        reason = (
            f"evaluate.malignant must name the malignant classes, for {enumerated(unknown)} may be malignant or not"
        )
    elif not malignant:
        reason = "no class of the model is malignant (evaluate.malignant)"
    elif "malignant" in classes and malignant != ["malignant"]:
        reason = "a class has the name malignant, and others are malignant too (evaluate.malignant)"
    else:
        return malignant, f"p_malignant is the sum of {enumerated(malignant)}, as the screening metrics take it"
    return [], f"there is no column p_malignant: {reason}"


def with_sum(predictions: pd.DataFrame, malignant: list[str]) -> pd.DataFrame:
    """Return predictions with `p_malignant`, the sum of the probabilities of some classes, if there are any."""
    if not malignant:
        return predictions
    summed = predictions[[f"p_{name}" for name in malignant]].to_numpy(np.float64).sum(axis=1)
    return predictions.assign(p_malignant=summed)


def with_similar(predictions: pd.DataFrame, training: TrainingImages, features: NDArray[np.float32]) -> pd.DataFrame:
    """Return predictions with `distance`, how far each image is from all training images (see `TrainingImages`), and
    the most similar ones: `similar_1, similar_1_label, similar_1_cosine` and so on.

    Args:
        predictions: a row an image.
        training: what is searched.
        features: of the images alone, (images, dim).
    """
    rows = [
        {
            f"similar_{rank}{name}": value
            for rank, similar in enumerate(of_image, start=1)
            for name, value in (("", similar.image_id), ("_label", similar.label), ("_cosine", similar.cosine))
        }
        for of_image in training.most_similar(features)
    ]
    found = pd.DataFrame(rows, index=predictions.index)
    return predictions.assign(distance=training.distance(features)).join(found)


def similar_in_words(predictions: pd.DataFrame) -> list[str]:
    """Return a line for each image that names the most similar ones, from what `with_similar` returns."""
    ranks = [column for column in map(str, predictions) if column.removeprefix("similar_").isdigit()]
    return [
        f"{row['image']} is most similar to "
        + ", ".join(f"{row[f'{rank}_label']} {row[rank]} ({row[f'{rank}_cosine']:.2f})" for rank in ranks)
        for row in predictions.to_dict("records")
    ]


def unlike_in_words(predictions: pd.DataFrame, limit: float) -> list[str]:
    """Return a line for each image that is farther from all training images than the limit."""
    unlike = predictions[predictions["distance"] > limit]
    return [
        f"{image} is unlike all training images (distance {distance:.2f}, held-out ones have up to {limit:.2f}): what "
        "is predicted of it says nothing"
        for image, distance in zip(unlike["image"], unlike["distance"], strict=True)
    ]


if __name__ == "__main__":
    run_command(main)
