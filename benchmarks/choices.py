"""What the defaults and the calibration were chosen by, and what a leak gains: trainings on real images.

Choices look at validation images only. The features have the most views that any setting has; a setting with fewer
takes the first of them.
"""

from collections.abc import Iterator, Sequence
from contextlib import chdir
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from benchmarks.processes import measure_stage
from benchmarks.real_data import HAM10000, IMAGES_IN_PLACE, ISIC2018, MOBILENET, require_real_data
from benchmarks.timing import Row
from dermoscopy.data.groups import group_ids
from dermoscopy.data.split import assign_parts
from dermoscopy.data.tables import read_table
from dermoscopy.model.repetition import Training, train_each, training_columns, trainings_of_seeds, with_seed
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import MANIFEST
from dermoscopy.runtime.workspace import make_workspace, write_params
from dermoscopy.scoring.calibration import (
    TEMPERATURES,
    Calibration,
    apply_calibration,
    expected_calibration_error,
    fit_calibration,
)
from dermoscopy.scoring.comparison import ALPHA, SEED, contributions, corrected_difference, sign_flip_test
from dermoscopy.scoring.definitions import losses_of
from dermoscopy.scoring.metrics import point_metrics
from dermoscopy.scoring.predictions import class_names

SEEDS = range(1, 6)
LEAK_SEEDS = range(1, 11)
VIEWS = 8
# Changes of params.yaml; the first is params.yaml itself.
SETTINGS: Sequence[Sequence[str]] = (
    [],
    *([f"augmentation.views={views}"] for views in (0, 1, 4, 8)),
    *([f"train.dropout={dropout}"] for dropout in (0, 0.3, 0.7)),
    *([f"train.patience={patience}"] for patience in (5, 40)),
    *(
        [f"train.batch_size={size}", f"train.learning_rate={rate}"]
        for size, rate in ((32, 0.0003), (32, 0.001), (128, 0.0003), (128, 0.003), (512, 0.001), (512, 0.003))
    ),
)
METRICS = ("balanced_accuracy", "accuracy", "macro_f1", "macro_auc", "log_loss")


def measure() -> dict[str, list[Row]]:
    require_real_data()
    tables: dict[str, list[Row]] = {}
    for images, views, of_images in ((HAM10000, VIEWS, all_tables), (ISIC2018, None, calibration_tables)):
        with TemporaryDirectory() as folder:
            make_project(Path(folder), images, views)
            with chdir(folder):
                tables |= of_images(images.name)
    return tables


def make_project(folder: Path, images: Path, views: int | None) -> None:
    """Fill a folder with a project that has the features of some images; None is the number of views in params.yaml."""
    own: dict[str, dict[str, Any]] = {"data": IMAGES_IN_PLACE | {"directory": str(images)}, "backbone": MOBILENET}
    make_workspace(folder, own | ({"augmentation": {"views": views}} if views else {}))
    for stage in ("download", "manifest", "backbone", "features"):
        measure_stage(folder, stage)
    write_params(folder, own)


def all_tables(name: str) -> dict[str, list[Row]]:
    """Return the tables of the project in the current folder, of the images of this name."""
    manifest = read_manifest()
    seeds = f"{len(LEAK_SEEDS)} seeds"
    return {
        f"Defaults: {name}, validation, {len(SEEDS)} seeds, params.yaml and changes of it": defaults_table(manifest),
        **calibration_tables(name),
        f"Split by image and by lesion: {name}, test, {seeds}": leak_table(manifest),
        f"The same params and split, {seeds} of training, compared in pairs: {name}": false_alarms_table(manifest),
    }


def calibration_tables(name: str) -> dict[str, list[Row]]:
    """Return the table of ways to calibrate in the project in the current folder."""
    title = f"Calibration: {name}, fitted on some validation images, scored on others, {len(SEEDS)} seeds"
    return {title: calibration_table(read_manifest())}


def read_manifest() -> pd.DataFrame:
    """Return what is needed of the manifest of the project in the current folder."""
    return read_table(MANIFEST, "image_id", "label", "lesion_id", "sha256")


def defaults_table(manifest: pd.DataFrame) -> list[Row]:
    """Return a row for each setting: validation means, and the paired difference from params.yaml as it is."""
    names = [" ".join(setting) or "params.yaml" for setting in SETTINGS]
    trainings = [trainings_of_seeds(load_params(changes=setting), manifest, SEEDS) for setting in SETTINGS]
    done = iter(train_each([training for of_setting in trainings for training in of_setting]))
    rows: list[Row] = []
    first: pd.Series[float] | None = None
    for name in names:
        of_seeds = [next(done) for _ in SEEDS]
        metrics = [point_metrics(part_of(trained.predictions, "validation")) for trained in of_seeds]
        table = pd.DataFrame([values.model_dump(include=set(METRICS)) for values in metrics])[list(METRICS)]
        first = table["balanced_accuracy"] if first is None else first
        difference = table["balanced_accuracy"] - first
        rows.append(
            {
                "params": name,
                **{metric: float(table[metric].mean()) for metric in METRICS},
                "difference in balanced accuracy": float(difference.mean()),
                "its standard error": float(difference.std() / len(difference) ** 0.5),
                "epochs": float(np.mean([trained.epochs for trained in of_seeds])),
            }
        )
    return rows


def calibration_table(manifest: pd.DataFrame) -> list[Row]:
    """Return a row for each way to calibrate, class weights and number of images to fit on: mean log loss and error."""
    rows = []
    for class_weights in ("balanced", "none"):
        params = load_params(changes=[f"train.class_weights={class_weights}"])
        trainings = trainings_of_seeds(params, manifest, SEEDS)
        for training, trained in zip(trainings, train_each(trainings), strict=True):
            validation = part_of(trained.predictions, "validation").merge(groups_of(manifest))
            for name, fitted_on, calibrated in calibrate_in_every_way(validation, training):
                rows.append(
                    {
                        "train.class_weights": class_weights,
                        "lesions to fit on": fitted_on,
                        "probabilities": name,
                        "log loss": float(losses_of(calibrated).mean()),
                        "ECE": expected_calibration_error(calibrated),
                    }
                )
    keys = ["train.class_weights", "lesions to fit on", "probabilities"]
    means = pd.DataFrame(rows).groupby(keys, sort=False).mean().reset_index()
    return [{str(key): value for key, value in row.items()} for row in means.to_dict("records")]


def calibrate_in_every_way(validation: pd.DataFrame, training: Training) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Yield a name, the number of lesions that were fitted on, and calibrated predictions of the other lesions."""
    lesions = validation["group_id"].drop_duplicates().to_numpy()
    shuffled = np.random.default_rng(training.params.split.seed).permutation(lesions)
    names = class_names(validation)
    unweighted = Calibration(1, dict(zip(names, -np.log(training.class_weights), strict=True)))
    for count in (50, len(lesions) // 2):
        known = validation["group_id"].isin(shuffled[:count])
        fitted, others = validation[known], validation[validation["group_id"].isin(shuffled[len(lesions) // 2 :])]
        number = round(count, -1)
        yield "as predicted", number, others
        yield "temperature", number, with_temperature(fitted, others)
        yield "temperature and biases", number, apply_calibration(others, fit_calibration(fitted, [1] * len(names)))
        undone = [apply_calibration(table, unweighted) for table in (fitted, others)]
        yield "weights undone, temperature", number, with_temperature(*undone)
        both = fit_calibration(fitted, training.class_weights)
        yield "weights undone, temperature and biases", number, apply_calibration(others, both)


def with_temperature(fitted: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Return predictions calibrated by a temperature alone, fitted on others."""
    unbiased = dict.fromkeys(class_names(fitted), 0.0)

    def loss(logarithm: float) -> float:
        return float(losses_of(apply_calibration(fitted, Calibration(float(np.exp(logarithm)), unbiased))).mean())

    best = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURES)), method="bounded").x
    return apply_calibration(others, Calibration(float(np.exp(best)), unbiased))


def leak_table(manifest: pd.DataFrame) -> list[Row]:
    """Return a row for each metric: both ways to split, parts of the same sizes, and the difference."""
    params = load_params()
    by_lesion = trainings_of_seeds(params, manifest, LEAK_SEEDS)
    by_image = [
        split_by_image(params, manifest, training.part, seed)
        for training, seed in zip(by_lesion, LEAK_SEEDS, strict=True)
    ]
    done = train_each([*by_lesion, *by_image])
    metrics = [point_metrics(part_of(trained.predictions, "test")) for trained in done]
    sizes = by_lesion[0].part.value_counts()
    rows: list[Row] = []
    for name in METRICS:
        values = np.array([getattr(item, name) for item in metrics]).reshape(2, -1)
        difference = corrected_difference(values[1] - values[0], sizes["test"], sizes["train"])
        rows.append(
            {
                "metric": name,
                "by lesion": float(values[0].mean()),
                "by image": float(values[1].mean()),
                "difference": difference.mean,
                "low": difference.low,
                "high": difference.high,
                "p": difference.p_value,
            }
        )
    shared = [share_of_leaks(manifest, training.part) for training in by_image]
    return [*rows, {"metric": "share of test images with their lesion in training", "by image": float(np.mean(shared))}]


def false_alarms_table(manifest: pd.DataFrame) -> list[Row]:
    """Return how often one split's trainings that differ in nothing but their seed are called different."""
    params = load_params()
    part = assign_parts(manifest, params.split)
    images = training_columns(manifest)
    trainings = [Training(with_seed(params, seed), images, part) for seed in LEAK_SEEDS]
    groups = groups_of(manifest)
    tables = [part_of(trained.predictions, "test").merge(groups) for trained in train_each(trainings)]
    pairs = list(combinations(tables, 2))
    alarms = sum(sign_flip_test(contributions(*pair), SEED) < ALPHA for pair in pairs)
    accuracies = [point_metrics(table).balanced_accuracy for table in tables]
    return [
        {
            "pairs": len(pairs),
            "called different": alarms,
            "share": alarms / len(pairs),
            "standard deviation of balanced accuracy": float(np.std(accuracies, ddof=1)),
        }
    ]


def split_by_image(params: Params, manifest: pd.DataFrame, like: "pd.Series[str]", seed: int) -> Training:
    """Return a training whose parts are drawn by image, and have the sizes of those of `like`."""
    shares = {name: float((like == name).mean()) for name in ("validation", "test")}
    split = params.split.model_copy(update={"group": "image", **shares})
    of_seed = with_seed(params.model_copy(update={"split": split}), seed)
    return Training(of_seed, training_columns(manifest), assign_parts(manifest, of_seed.split))


def groups_of(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return `image_id, group_id` of the images."""
    return manifest[["image_id"]].assign(group_id=group_ids(manifest))


def share_of_leaks(manifest: pd.DataFrame, part: "pd.Series[str]") -> float:
    """Return the share of test images whose lesion has an image in the training part."""
    return float(manifest["lesion_id"][part == "test"].isin(manifest["lesion_id"][part == "train"]).mean())


def part_of(predictions: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the rows of a part."""
    return predictions[predictions["part"] == part]
