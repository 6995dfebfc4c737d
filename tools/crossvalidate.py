"""Cross-validate the head on the cached features: k folds, stratified, no lesion in two of them.

Every image is predicted once, by a head that has seen neither it nor another image of its lesion. Run from the top
folder of the project, after dvc repro features.
"""

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.groups import group_ids
from dermoscopy.data.split import assign_folds, assign_parts
from dermoscopy.data.tables import read_table, write_json
from dermoscopy.model.repetition import Training, require_current_features, train_each, training_columns
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import CROSSVALIDATION, MANIFEST
from dermoscopy.runtime.progress import progress
from dermoscopy.scoring.bootstrap import DRAWS
from dermoscopy.scoring.metrics import HEADLINES, Metrics, point_metrics, score
from dermoscopy.scoring.predictions import decide

HELD_OUT = "held out"
AVERAGED = (*HEADLINES, "log_loss", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.crossvalidate", description=__doc__)
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="number of folds, 2 to 20; default 5")
    folds = parser.parse_args().folds
    if not 2 <= folds <= 20:
        parser.error("--folds must be from 2 to 20")

    params = load_params()
    manifest = read_table(MANIFEST, "image_id", "label", "lesion_id", "sha256")
    require_current_features(manifest, params)  # better said before the first fold
    fold = assign_folds(manifest, folds, params.split)
    images = training_columns(manifest)
    trainings = [Training(params, images, fold_parts(manifest, fold == number, params)) for number in range(folds)]
    groups = manifest[["image_id"]].assign(group_id=group_ids(manifest))
    tables = []
    for number, (training, trained) in enumerate(zip(trainings, train_each(trainings), strict=True)):
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
