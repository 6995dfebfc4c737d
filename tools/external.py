"""Test the trained classifier on another labelled folder, through the same path as the pipeline's own images.

It is not a stage, so that no experiment is chosen by it: an external test is for the end. Run from the top folder of
the project, after dvc repro. It writes into the folder of --out: metrics.json, as the evaluate stage does;
predictions.csv; and, where the model knows a class of it, submission.csv, the probabilities of all images in the form
of the ISIC 2018 challenge's Task 3. With --models the mean of several models is tested, Git revisions or DVC
experiments; an image that one of them knows does not count.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dermoscopy.data.groups import group_ids
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.inspections import inspect
from dermoscopy.data.manifest import inspect_images
from dermoscopy.data.raw import match_files, read_folder
from dermoscopy.data.sources.directory import list_files
from dermoscopy.data.tables import read_table, write_table
from dermoscopy.features.finetuned import read_tuned_on
from dermoscopy.model.classifier import Classifier
from dermoscopy.model.members import Member, named
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import DataError, first_few, one_line
from dermoscopy.runtime.files import user_output
from dermoscopy.runtime.params import Data, load_params
from dermoscopy.runtime.paths import EXTERNAL, MANIFEST
from dermoscopy.scoring.evaluation import balanced_accuracy_in_words
from dermoscopy.scoring.metrics import score, write_metrics
from dermoscopy.scoring.predictions import class_names, with_probabilities
from dermoscopy.scoring.trained_models import members_of, models_in_words

ISIC_CLASSES = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
PUBLIC_ID = r"[A-Za-z]_\d{7,}$"
KNOWN = ["lesion_id", "group_id", "sha256"]
# As other tables have them, but with a decimal point in every number: the challenge's scorer refuses a column of 0.
SUBMISSION_FORMAT = "%#.9g"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.external", description=__doc__)
    parser.add_argument("directory", type=Path, metavar="FOLDER", help="images, in subfolders too, and a label table")
    parser.add_argument(
        "--labels", type=Path, metavar="FILE", help="the label table, if the folder holds none or several"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=EXTERNAL, help="default: external")
    parser.add_argument(
        "--models",
        nargs="+",
        metavar="NAME",
        help="after the folder: revisions, experiments or workspace, whose mean is tested; default: workspace",
    )
    parser.add_argument(
        "-S",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="changes",
        help="change a param, as dvc exp run -S: such as data.columns.image=photo, where this table names it otherwise",
    )
    arguments = parser.parse_args()
    changed = {change.lstrip("+~").partition("=")[0].strip() for change in arguments.changes}
    if arguments.models and changed & {"evaluate", "evaluate.tta", "evaluate.prior_exponent"}:
        parser.error("--models: each model has its own evaluate.tta and evaluate.prior_exponent: do not change them")

    configure_image_libraries()
    params = load_params(changes=arguments.changes)
    where = {"directory": str(arguments.directory)}
    if arguments.labels or not any(change.startswith("data.labels=") for change in arguments.changes):
        where["labels"] = arguments.labels and str(arguments.labels)
    images = read_images(params.data.model_copy(update=where))
    arguments.out.mkdir(parents=True, exist_ok=True)  # before the work: a file may have this name
    if arguments.models:
        print(f"note: external: {one_line(models_in_words(arguments.models))}", file=sys.stderr)
    with members_of(arguments.models, params.evaluate, MANIFEST) as members:
        known = pd.concat([known_images(member) for member in dict.fromkeys(members)])
        predictions = predict_external(images, members)
    owners = "the data of the models" if arguments.models else "the project's own data"
    new = without_known(predictions, known)
    scored = new[new["label"].isin(class_names(new))]
    if new.empty:
        among = "the data of the models" if arguments.models else "those that the project has"
        raise DataError(f"every image of {arguments.directory} is among {among}")
    if scored.empty:
        raise DataError(
            f"no image of {arguments.directory} is new and of a class that the model knows "
            f"({first_few(class_names(new))}): its labels are {first_few(sorted(images['label'].unique()))}"
        )
    metrics = score(scored, params.evaluate.malignant, params.evaluate.seed)
    metrics = metrics.model_copy(update={"notes": metrics.notes + left_out(predictions, new, scored, owners)})
    for note in metrics.notes:
        print(f"warning: external: {note}", file=sys.stderr)
    # the challenge takes the largest number for the answer
    submitted = with_probabilities(predictions, predictions.filter(regex="^adjusted_").to_numpy())
    if {name.upper() for name in class_names(predictions)} & set(ISIC_CLASSES):
        with user_output(arguments.out / "submission.csv") as path:
            write_table(submission(submitted), path, SUBMISSION_FORMAT)
    with user_output(arguments.out / "predictions.csv") as path:
        write_table(predictions.drop(columns=[*KNOWN, *predictions.filter(regex="^adjusted_")]), path)
    with user_output(arguments.out / "metrics.json") as path:
        write_metrics({"external": metrics}, path)
    print(
        f"external: accuracy {metrics.accuracy:.3f}, {balanced_accuracy_in_words(metrics)} on {metrics.support} of "
        f"{len(predictions)} images; all numbers are in {arguments.out / 'metrics.json'}"
    )


def read_images(data: Data) -> pd.DataFrame:
    """Return `image_id, path, label, lesion_id, group_id, sha256` and what else is known of the labelled images.

    Raises:
        PipelineError: there is no folder, label table or image, or one cannot be used, as the manifest stage says.
    """
    files, warnings = list_files(data)
    for line in warnings:
        print(f"warning: external: {one_line(line)}", file=sys.stderr)
    labels, found = read_folder(data, files)
    matched = match_files(labels["file"], found)
    labels = labels[labels["label"] != ""]
    images, rejected = inspect_images(labels, matched, inspect, "external")
    if len(rejected):
        reasons = "; ".join(rejected["reason"].head(5))
        raise DataError(f"{len(rejected)} of {len(labels)} labelled images are bad: {reasons}: fix or remove them")
    return labels.merge(images, on="image_id").assign(group_id=group_ids)


def predict_external(images: pd.DataFrame, members: Sequence[Member]) -> pd.DataFrame:
    """Return the prediction table of the images, all of part external, with `lesion_id`, `group_id` and `sha256`.

    It also has `adjusted_<class>...`, the probabilities whose largest is of the predicted class.

    Args:
        images: as `read_images` returns them.
        members: the models whose mean is predicted, each from the views that its report scores.
    """
    files = [Path(path) for path in images["path"]]
    classifier = Classifier(members)
    for line in classifier.remarks(images) if classifier.clinical else []:
        print(f"note: external: {one_line(line)}", file=sys.stderr)
    predicted = list(classifier.predict_files(files, None, images))
    unreadable = [line for block in predicted for line in block.unreadable]
    if unreadable:  # they could be read a moment ago
        raise DataError(f"{len(unreadable)} of {len(files)} images can no longer be read: {unreadable[0]}: run again")
    adjusted = [f"adjusted_{name}" for name in classifier.classes]
    predictions = pd.concat(
        [block.table.assign(**dict(zip(adjusted, block.adjusted.T, strict=True))) for block in predicted]
    )
    table = (
        images.rename(columns={"path": "image"}).merge(predictions, on="image", validate="1:1").assign(part="external")
    )
    columns = ["image_id", "part", "label", "predicted", *table.filter(regex="^p_").columns, *adjusted, *KNOWN]
    return table[columns].sort_values("image_id", ignore_index=True)


def known_images(member: Member) -> pd.DataFrame:
    """Return `image_id, lesion_id, group_id, sha256` of a model's project, and of what its backbone was tuned on.

    Raises:
        PipelineError: one of their tables cannot be read; it names the model.
    """
    columns = ["image_id", *KNOWN]
    with named(member.name, member.head, member.backbone):
        manifest = read_table(member.head / MANIFEST, "image_id", "lesion_id", "sha256")
        tuned_on = read_tuned_on(member.backbone)
    return pd.concat([manifest.assign(group_id=group_ids(manifest))[columns], tuned_on[columns]])


def without_known(predictions: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the images that are none of the known ones: by content, id, lesion or patient.

    Ids count if they are those of a public archive, as ISIC_0024306; small numbers mean other things elsewhere.
    """
    left_out = predictions["sha256"].isin(known["sha256"])
    for name in ("image_id", "lesion_id", "group_id"):
        left_out |= predictions[name].isin(known[name]) & predictions[name].str.contains(PUBLIC_ID)
    return predictions[~left_out]


def left_out(predictions: pd.DataFrame, new: pd.DataFrame, scored: pd.DataFrame, owners: str) -> list[str]:
    """Return a sentence for each reason why images were predicted but not scored, or not submitted as predicted.

    Args:
        predictions: of all images.
        new: those of them that are not known.
        scored: those of them of a class that the model knows.
        owners: whose data are known.
    """
    notes = []
    if beyond := [name for name in class_names(predictions) if name.upper() not in ISIC_CLASSES]:
        names = first_few(beyond)
        all_of_them = len(beyond) == len(class_names(predictions))
        notes.append(
            f"no submission.csv: the challenge knows none of {names}"
            if all_of_them
            else f"submission.csv has no column for {names}, which the challenge does not know"
        )
    if known := len(predictions) - len(new):
        notes.append(f"images left out, because {owners} have their content, id, lesion or patient: {known}")
    unknown = new["label"][~new.index.isin(scored.index)]
    if len(unknown):
        counts = [f"{count} {label}" for label, count in unknown.value_counts().items()]
        notes.append(f"images left out, because the model does not know their class: {first_few(counts)}")
    return notes


def submission(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `image` and the probabilities of the challenge's seven classes; 0 for one that the model does not know."""
    table = pd.DataFrame({"image": predictions["image_id"]})
    return table.assign(**{name: predictions.get(f"p_{name.lower()}", 0.0) for name in ISIC_CLASSES})


if __name__ == "__main__":
    run_command(main)
