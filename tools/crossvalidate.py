"""Cross-validate the head on the cached features: k folds, stratified, no lesion in two of them.

Every image is predicted once, by a head that has seen neither it nor another image of its lesion. Run from the top
folder of the project, after dvc repro features. A backbone that was fine-tuned has learnt from images of every fold:
with --finetune it is tuned anew in each, from the frozen one, which takes as long as the finetune stage K times.
"""

import argparse
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.groups import group_ids
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.split import assign_folds, assign_parts
from dermoscopy.data.tables import read_table, write_json
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.computation import compute_features
from dermoscopy.features.engines.choice import choose_engine, keras_backend
from dermoscopy.features.finetuned import require_not_tuned_on
from dermoscopy.model.repetition import Trained, Training, require_current_features, train_each, training_columns
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import DataError, ParamsError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import BACKBONE, CROSSVALIDATION, FEATURES, FINETUNED, MANIFEST
from dermoscopy.runtime.progress import progress
from dermoscopy.scoring.bootstrap import DRAWS
from dermoscopy.scoring.metrics import HEADLINES, Metrics, point_metrics, score
from dermoscopy.scoring.predictions import decide

HELD_OUT = "held out"
AVERAGED = (*HEADLINES, "log_loss", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.crossvalidate", description=__doc__)
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="number of folds, 2 to 20; default 5")
    parser.add_argument("--finetune", action="store_true", help="fine-tune the backbone anew in each fold")
    arguments = parser.parse_args()
    folds = arguments.folds
    if not 2 <= folds <= 20:
        parser.error("--folds must be from 2 to 20")

    params = load_params()
    manifest = read_table(MANIFEST, "image_id", "label", "lesion_id", "sha256")
    fold = assign_folds(manifest, folds, params.split)
    parts = [fold_parts(manifest, fold == number, params) for number in range(folds)]
    images = training_columns(manifest)
    trainings = [Training(params, images, part) for part in parts]
    if arguments.finetune:
        if params.finetune.epochs == 0:
            raise ParamsError("--finetune needs finetune.epochs above 0 in params.yaml: it says how long at most")
        backbone = read_backbone_info(BACKBONE)
        if (backbone.name, backbone.image_size) != (params.backbone.name, params.backbone.image_size):
            raise DataError(f"{BACKBONE} is not the one of params.yaml: run dvc repro backbone")
        configure_image_libraries()
        done = [train_tuned(training, manifest) for training in trainings]
    else:
        require_current_features(manifest, params)
        for part in parts:
            require_not_tuned_on(manifest.assign(part=part), "tune it anew in each fold, with --finetune")
        done = train_each(trainings)
    groups = manifest[["image_id"]].assign(group_id=group_ids(manifest))
    tables = []
    for number, (training, trained) in enumerate(zip(trainings, done, strict=True)):
        held_out = trained.predictions.query("part == @HELD_OUT").assign(part=f"fold {number + 1}")
        held_out = decide(held_out, training.prior, params.evaluate.prior_exponent)
        tables.append(held_out.merge(groups, on="image_id", validate="1:1"))
    of_folds = pd.DataFrame([point_metrics(table).model_dump(include=set(AVERAGED)) for table in tables])
    of_folds = of_folds[list(AVERAGED)].astype(float)
    with progress("bootstrap", DRAWS, "draw", in_logs=False) as bar:
        pooled = score(pd.concat(tables), params.evaluate.malignant, params.evaluate.seed, bar.update)
    write_json(
        {
            "folds": folds,
            "mean": of_folds.mean(skipna=False).to_dict(),
            "standard_deviation": of_folds.std(skipna=False).to_dict(),
            "pooled": pooled.model_dump(mode="json", exclude_unset=True),
        },
        CROSSVALIDATION,
    )
    print(fold_table(of_folds, pooled).to_string(float_format="%.3f", na_rep=""))
    for note in pooled.notes:
        print(f"pooled: {note}")
    print(f"crossvalidate: {folds} folds, {pooled.support} images predicted; all numbers are in {CROSSVALIDATION}")


def train_tuned(training: Training, manifest: pd.DataFrame) -> Trained:
    """Fine-tune the backbone for a training, compute the features with it, train and predict."""
    params = training.params
    start_keras(params.finetune.seed, keras_backend(choose_engine(params.features.engine)))
    from dermoscopy.model.tuned_backbone import finetune_backbone

    images = manifest.assign(part=training.part)
    project = MANIFEST.parent / ".partial.fold"  # as large as data/features
    shutil.rmtree(project, ignore_errors=True)  # of a run that was killed
    try:
        backbone = project / FINETUNED
        backbone.mkdir(parents=True)
        done = finetune_backbone(images, BACKBONE, backbone, params.finetune, params.augmentation, params.features)
        backbone = backbone if done.kept else BACKBONE
        compute_features(manifest, backbone, project / FEATURES, params.augmentation, params.features)
        return train_each([replace(training, project=project)])[0]
    finally:
        shutil.rmtree(project, ignore_errors=True)


def fold_parts(manifest: pd.DataFrame, held_out: NDArray[np.bool_], params: Params) -> "pd.Series[str]":
    """Return the part of each image: of the other folds a share of `split.validation`, drawn as the stage does, stops.

    Raises:
        DataError: a class has too few lesions outside of the fold.
    """
    part = pd.Series(HELD_OUT, manifest.index)
    known = manifest[~held_out]
    part[known.index] = assign_parts(known, params.split.model_copy(update={"test": 0.0}))
    return part


def fold_table(of_folds: pd.DataFrame, pooled: Metrics) -> pd.DataFrame:
    """Return a row a metric: mean and standard deviation over folds, and of all predictions together with interval.

    The standard deviation is that of one fold; folds share training images, so it is not that of the mean.
    """
    table = pd.DataFrame({"mean": of_folds.mean(skipna=False), "standard deviation": of_folds.std(skipna=False)})
    table["pooled"] = [getattr(pooled, name) for name in table.index]
    limits = [getattr(pooled, f"{name}_ci", None) or (np.nan, np.nan) for name in table.index]
    return table.join(pd.DataFrame(limits, columns=["low", "high"], index=table.index))


if __name__ == "__main__":
    run_command(main)
