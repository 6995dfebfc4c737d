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
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from stages.common.backbones import read_backbone_info
from stages.common.errors import DataError, PipelineError, run
from stages.common.features import FEATURES, FeatureReader
from stages.common.metrics import HEADLINES, point_metrics, score
from stages.common.params import Params, load_params
from stages.common.tables import MANIFEST, read_table, write_json
from stages.split import assign_parts, group_images

METRICS = Path("metrics/crossvalidation.json")
TRAINED = (*HEADLINES, "log_loss", "ece")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.crossvalidate", description=__doc__)
    parser.add_argument("--folds", type=int, default=5, metavar="K", help="2 to 20, 5 unless told")
    folds = parser.parse_args().folds
    if not 2 <= folds <= 20:
        parser.error("--folds: allowed is 2 to 20")

    params = load_params()
    manifest = read_table(MANIFEST, "image_id", "label", "lesion_id", "sha256")
    require_current_features(manifest, params)  # better said before the first fold
    fold = assign_folds(manifest, folds, params)
    # A head is too small for two threads, so each fold has one; spawned, because TensorFlow does not survive a fork.
    # One more process than processors: of five folds on two, none is then left to run alone at the end.
    workers = min(folds, (os.cpu_count() or 1) + 1)
    quick = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # at Ctrl-C a worker would go on to the next fold
    try:
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=quick) as pool:
            tables = list(pool.map(partial(predict_fold, params, manifest, fold), range(folds)))
    except BrokenProcessPool:
        raise PipelineError("a fold was killed, for want of memory perhaps: close other programs, run again") from None
    of_folds = pd.DataFrame([point_metrics(table) for table in tables])[list(TRAINED)].astype(float)
    pooled = score(pd.concat(tables), params.evaluate.malignant, params.evaluate.seed)
    write_json(
        {
            "folds": folds,
            "mean": of_folds.mean(skipna=False).to_dict(),
            "standard_deviation": of_folds.std(skipna=False).to_dict(),
            "pooled": pooled,
        },
        METRICS,
    )
    print(summarize(of_folds, pooled).to_string(float_format="%.3f", na_rep=""))
    for note in pooled["notes"]:
        print(f"pooled: {note}")
    print(f"crossvalidate: {folds} folds, {pooled['support']} images predicted; all numbers are in {METRICS}")


def require_current_features(manifest: pd.DataFrame, params: Params) -> None:
    """Raise a DataError unless the features are of these images, backbone and view params; DVC guards stages only."""
    features = FeatureReader()
    features.rows(manifest["image_id"])
    backbone = read_backbone_info()
    hashes = pd.Series(features.sha256, features.image_ids).reindex(manifest["image_id"])
    if (
        (backbone.name, backbone.image_size) != (params.backbone.name, params.backbone.image_size)
        or features.info.backbone != backbone.fingerprint
        or features.info.augmentation != params.augmentation
        or not np.array_equal(hashes, manifest["sha256"])
    ):
        raise DataError(f"{FEATURES} is of other images, another backbone or other views: run dvc repro features")


def assign_folds(manifest: pd.DataFrame, folds: int, params: Params) -> NDArray[np.intp]:
    """Return the fold, 0 to folds - 1, of each image of the manifest.

    Stratified by label; the images of a lesion (`split.group`), and images with equal content, share a fold.

    Raises:
        DataError: a class has fewer lesions than there are folds.
    """
    group = group_images(manifest, by_lesion=params.split.group == "lesion")
    count = pd.Series(group).groupby(manifest["label"].to_numpy()).nunique()
    if count.min() < folds:
        raise DataError(
            f"class {count.idxmin()} has {count.min()} {params.split.group}s, too few for {folds} folds: lower --folds"
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=params.split.seed)
    fold = np.empty(len(manifest), np.intp)
    for number, (_, held_out) in enumerate(splitter.split(manifest, manifest["label"], group)):
        fold[held_out] = number
    return fold


def predict_fold(params: Params, manifest: pd.DataFrame, fold: NDArray[np.intp], number: int) -> pd.DataFrame:
    """Train the head without one fold and return the predictions for it, as `evaluate.tta` says, with `lesion_id`.

    `split.validation` of the other folds, drawn as the split stage draws, decides when training stops.
    """
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    from stages.common.keras_runtime import start_keras
    from stages.common.training import predict, tabulate, train_head

    features = FeatureReader()
    classes = sorted(manifest["label"].unique())
    images = manifest[["image_id", "label", "lesion_id"]].assign(
        row=features.rows(manifest["image_id"]), target=pd.Categorical(manifest["label"], categories=classes).codes
    )
    known = manifest[fold != number]
    part = assign_parts(known, params.split.model_copy(update={"test": 0.0}))
    keras = start_keras(params.train.seed)
    training, validation = (images.loc[known.index[part == name]] for name in ("train", "validation"))
    head, _ = train_head(keras, features, training, validation, len(classes), params.train)
    held_out = images[fold == number].assign(part=f"fold {number + 1}").reset_index(drop=True)
    probabilities = predict(keras, head, features, held_out["row"].to_numpy())
    chosen = probabilities.mean(axis=1) if params.evaluate.tta else probabilities[:, 0]
    return tabulate(held_out, classes, chosen).assign(lesion_id=held_out["lesion_id"])


def summarize(of_folds: pd.DataFrame, pooled: dict[str, float]) -> pd.DataFrame:
    """Return a row a metric: mean and standard deviation over folds, and of all predictions together with interval.

    The standard deviation is that of one fold; folds share training images, so it is not that of the mean.
    """
    table = pd.DataFrame({"mean": of_folds.mean(skipna=False), "standard deviation": of_folds.std(skipna=False)})
    table["pooled"] = [pooled[name] for name in table.index]
    limits = [pooled.get(f"{name}_ci") or (np.nan, np.nan) for name in table.index]
    return table.join(pd.DataFrame(limits, columns=["low", "high"], index=table.index))


if __name__ == "__main__":
    run(main)
