"""Runs trained again, with several seeds of split and training, and compared seed by seed."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dermoscopy.data.tables import read_table
from dermoscopy.model.repetition import Training, require_current_features, train_each, trainings_of_seeds
from dermoscopy.runtime.errors import DataError, ParamsError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import BACKBONE, FEATURES, FINETUNED, MANIFEST, PARAMS
from dermoscopy.scoring.comparison import RepeatedDifference, corrected_difference, judge
from dermoscopy.scoring.evaluation import evaluate_without_intervals
from dermoscopy.scoring.metrics import HEADLINES, Metrics
from dermoscopy.scoring.runs import revision

NEEDED = (PARAMS, MANIFEST, BACKBONE / "backbone.json", FEATURES)
IF_TUNED = [FINETUNED / name for name in ("finetuning.json", "backbone.json", "tuned_on.csv")]
COMPARED = (*HEADLINES, "log_loss")


@dataclass(frozen=True)
class RepeatedRun:
    """The test metrics of the params of a revision, trained once for each seed.

    Attributes:
        name: of the revision.
        metrics: of the test part, by seed.
        training_images, test_images: how many there are with the first seed.
    """

    name: str
    metrics: list[Metrics]
    training_images: int
    test_images: int


def train_again(names: Sequence[str], seeds: Sequence[int]) -> list[RepeatedRun]:
    """Train what the params of each revision say once for each seed, of split and training alike, on its features.

    Raises:
        DataError: a revision or its features cannot be read, or with some seed two of them have other parts.
        ParamsError: its params are not those of this version of the pipeline.
    """
    with ExitStack() as stack:
        folders = [stack.enter_context(revision(name, *NEEDED, if_any=IF_TUNED)) for name in names]
        trainings = [trainings_of(name, folder, seeds) for name, folder in zip(names, folders, strict=True)]
        for name, of_name in zip(names[1:], trainings[1:], strict=True):
            require_same_parts(names[0], trainings[0], name, of_name)
        done = iter(train_each([training for of_name in trainings for training in of_name]))
        metrics = [
            [evaluate_without_intervals(next(done).predictions, one, one.params.evaluate)["test"] for one in of_name]
            for of_name in trainings
        ]
    sizes = trainings[0][0].part.value_counts()
    return [
        RepeatedRun(name, of_name, int(sizes["train"]), int(sizes["test"]))
        for name, of_name in zip(names, metrics, strict=True)
    ]


def trainings_of(name: str, project: Path, seeds: Sequence[int]) -> list[Training]:
    """Return the trainings of a revision whose files are in a folder; errors name the revision."""
    try:
        params = load_params(project / PARAMS)
        manifest = read_table(project / MANIFEST, "image_id", "label", "lesion_id", "sha256")
        require_current_features(manifest, params, project)
        trainings = trainings_of_seeds(params, manifest, seeds, project)
    except ParamsError as error:
        reason = str(error).replace(f"{project}/", "")
        raise ParamsError(f"{name} cannot be trained again by this version of the pipeline: {reason}") from None
    except DataError as error:
        reason = str(error).replace(f"{project}/", "")
        raise DataError(f"{name} cannot be trained again: {reason}") from None
    if params.split.test == 0:
        raise DataError(f"{name} has no test images (split.test = 0): compare runs with a test part")
    return trainings


def require_same_parts(first: str, ours: list[Training], other: str, theirs: list[Training]) -> None:
    """Raise a DataError unless with each seed two revisions have the same images, contents, labels and parts."""
    for one, two in zip(ours, theirs, strict=True):
        tables = [training.images.assign(part=training.part).reset_index(drop=True) for training in (one, two)]
        if not tables[0].equals(tables[1]):
            raise DataError(
                f"{first} and {other} cannot be compared: with seed {one.params.split.seed} they have other images, "
                "contents, labels or parts: run both with the same data and the same params under split"
            )


def difference_table(first: RepeatedRun, other: RepeatedRun) -> tuple[pd.DataFrame, RepeatedDifference]:
    """Return a row for each metric, and the difference in balanced accuracy.

    Columns are the means of both, the mean difference, its 95 % interval and its p-value, see `corrected_difference`;
    NaN where there is none.
    """
    rows, found = {}, {}
    for name in COMPARED:
        values = np.array([[getattr(item, name) for item in run.metrics] for run in (first, other)], np.float64)
        found[name] = corrected_difference(values[1] - values[0], first.test_images, first.training_images)
        limits = [found[name].low, found[name].high, found[name].p_value]
        rows[name] = [*values.mean(axis=1), found[name].mean, *limits]
    columns = [first.name, other.name, "difference", "low", "high", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype(float), found["balanced_accuracy"]


def repeated_verdict(
    first: RepeatedRun, other: RepeatedRun, difference: RepeatedDifference, p_corrected: float | None = None
) -> str:
    """Return a plain sentence: identical, better, worse, or not distinguishable by balanced accuracy.

    Args:
        first: what is compared with.
        other: what is compared.
        difference: in balanced accuracy; without spread to judge by it counts as not distinguishable.
        p_corrected: its p-value, corrected because several are compared.
    """
    if first.metrics == other.metrics:
        return f"{first.name} and {other.name} are identical: the same test metrics with every seed."
    limits = None if difference.low is None or difference.high is None else (difference.low, difference.high)
    p, words = (certain(difference), "p") if p_corrected is None else (p_corrected, "Holm-corrected p")
    return judge(first.name, other.name, difference.mean, limits, p, words, f"over {len(first.metrics)} seeds")


def certain(difference: RepeatedDifference) -> float:
    """Return the p-value, 1 where there is no spread to judge by."""
    return 1.0 if difference.p_value is None else difference.p_value
