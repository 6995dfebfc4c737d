"""Cross-validate the head on the cached features: k folds, stratified, no lesion in two of them.

Every image is predicted once, by a head that has seen neither it nor another image of its lesion. Run from the top
folder of the project, after dvc repro features.
"""

import argparse
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd

from dermoscopy.data.split import assign_folds
from dermoscopy.data.tables import read_table, write_json
from dermoscopy.model.crossvalidation import predict_fold, require_current_features
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import CROSSVALIDATION, MANIFEST
from dermoscopy.scoring.metrics import HEADLINES, Metrics, point_metrics, score

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
    # A head is too small for two threads, so each fold has one; spawned, because TensorFlow does not survive a fork.
    # One more process than processors: of five folds on two, none is then left to run alone at the end.
    workers = min(folds, (os.cpu_count() or 1) + 1)
    quick = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # at Ctrl-C a worker would go on to the next fold
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=quick) as pool:
            tables = list(pool.map(partial(predict_fold, params, manifest, fold), range(folds)))
    except BrokenProcessPool:
        raise PipelineError(
            "the process of a fold was killed, probably because memory ran out: close other programs and run again"
        ) from None
    of_folds = pd.DataFrame([point_metrics(table).model_dump(include=set(AVERAGED)) for table in tables])
    of_folds = of_folds[list(AVERAGED)].astype(float)
    pooled = score(pd.concat(tables), params.evaluate.malignant, params.evaluate.seed)
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
