"""The head trained again on stored features, with other params or parts: each training in a process of its own."""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd

from dermoscopy.data.split import assign_parts
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone, read_finetuning, require_not_tuned_on
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.clinical import ClinicalFeatures, Variable, fit_encoder
from dermoscopy.model.labelled_images import class_shares, label_images, prediction_table
from dermoscopy.model.training import predict_views, train_head
from dermoscopy.runtime.children import end_with_parent
from dermoscopy.runtime.errors import DataError, PipelineError
from dermoscopy.runtime.params import Params
from dermoscopy.runtime.paths import FEATURES
from dermoscopy.runtime.progress import progress, tick


@dataclass(frozen=True)
class Training:
    """What one training of the head is made of.

    Attributes:
        params: of it; `evaluate.tta` says which views of an image are predicted.
        images: of all images, see `training_columns`.
        part: of each image. `train` is learnt from, `validation` decides when to stop; all but `train` is predicted.
        project: the folder that has the features.
    """

    params: Params
    images: pd.DataFrame
    part: "pd.Series[str]"
    project: Path = Path()

    @property
    def prior(self) -> list[float]:
        """The share of each class, in the order of the outputs, among the images that are learnt from."""
        return class_shares(self._learnt, self._classes)

    @property
    def class_weights(self) -> list[float]:
        """How much an image of each class counts, in the order of the outputs."""
        target = pd.Index(self._classes).get_indexer(pd.Index(self._learnt))
        return class_weights(target, len(self._classes), self.params.train.class_weights).tolist()

    @property
    def _learnt(self) -> "pd.Series[str]":
        return self.images["label"][self.part == "train"]

    @property
    def _classes(self) -> list[str]:
        return sorted(self.images["label"].unique())


class Trained(NamedTuple):
    """The prediction table of the images that were not learnt from, and after how many epochs training stopped."""

    predictions: pd.DataFrame
    epochs: int


def with_seed(params: Params, seed: int) -> Params:
    """Return the params with this seed of split and training."""
    of_seed = {
        "split": params.split.model_copy(update={"seed": seed}),
        "train": params.train.model_copy(update={"seed": seed}),
    }
    return params.model_copy(update=of_seed)


def trainings_of_seeds(
    params: Params, manifest: pd.DataFrame, seeds: Sequence[int], project: Path = Path()
) -> list[Training]:
    """Return a training for each seed, of the split and of the training alike.

    Args:
        params: of all of them, but for the seeds.
        manifest: `image_id, label, lesion_id, sha256` of the images, and clinical variables.
        seeds: one for each training.
        project: the folder that has the features.

    Raises:
        DataError: a class is too rare for the parts, or the backbone was fine-tuned on images that these hold out.
    """
    of_seeds = [with_seed(params, seed) for seed in seeds]
    images = training_columns(manifest)
    trainings = [Training(one, images, assign_parts(manifest, one.split), project) for one in of_seeds]
    for training in trainings:
        remedy = "use dvc exp run -S split.seed=... -S train.seed=..., which tunes it anew for each split"
        require_not_tuned_on(images.assign(part=training.part), remedy, project)
    return trainings


def training_columns(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return what a training needs of a manifest: `image_id, label, sha256` and the clinical variables that it has."""
    known = [variable for variable in get_args(Variable) if variable in manifest]
    return manifest[["image_id", "label", "sha256", *known]]


def require_current_features(manifest: pd.DataFrame, params: Params, project: Path = Path()) -> None:
    """Raise a DataError unless the features are of these images, backbone and view params; DVC guards stages only.

    More views than the params name do no harm: a view does not depend on how many there are.
    """
    features = FeatureReader(project / FEATURES)
    rows = features.rows(manifest["image_id"])
    backbone = read_backbone_info(final_backbone(project))
    wanted = params.augmentation.model_copy(update={"views": features.info.augmentation.views})
    if (
        (backbone.name, backbone.image_size) != (params.backbone.name, params.backbone.image_size)
        or features.info.backbone != backbone.fingerprint
        or (params.finetune.epochs > 0) != (read_finetuning(project).epochs > 0)
        or features.info.augmentation != wanted
        or features.info.augmentation.views < params.augmentation.views
        or not np.array_equal(features.sha256[rows], manifest["sha256"].to_numpy("S64"))
    ):
        raise DataError(f"{FEATURES} is of other images, another backbone or other views: run dvc repro features")


def train_each(trainings: Sequence[Training]) -> list[Trained]:
    """Do all trainings, several at a time, and return what each gave.

    A head is too small for two threads, so each training has one. There is one process more than processors: of five
    trainings on two, none is then left to run alone at the end.

    Raises:
        PipelineError: the features cannot be used, or memory ran out.
    """
    workers = min(len(trainings), (os.cpu_count() or 1) + 1)
    try:
        # spawned: a forked process may hang where its parent has threads
        with (
            progress("trainings", len(trainings), "training", in_logs=False) as bar,
            ProcessPoolExecutor(workers, get_context("spawn"), initializer=end_with_parent) as pool,
        ):
            return list(tick(pool.map(train_and_predict, trainings), bar))
    except BrokenProcessPool:
        raise PipelineError(
            "the process of a training was killed, probably because memory ran out: close other programs and run again"
        ) from None


def train_and_predict(training: Training) -> Trained:
    """Train the head and predict, as `evaluate.tta` says, all images but those it learnt from."""
    params = training.params
    features = FeatureReader(training.project / FEATURES, params.augmentation.views)
    images, classes = label_images(training.images.assign(part=training.part), features)
    learnt, watched = (images[images["part"] == part] for part in ("train", "validation"))
    if params.train.clinical:
        features = ClinicalFeatures(features, images, fit_encoder(learnt, params.train.clinical))

    head, fitted = train_head(features, learnt, watched, len(classes), params.train)
    held_out = images[images["part"] != "train"]
    probabilities = predict_views(head, features, held_out["row"].to_numpy())
    scored = probabilities.mean(axis=1) if params.evaluate.tta else probabilities[:, 0]
    return Trained(prediction_table(held_out, classes, scored), fitted.epochs)
