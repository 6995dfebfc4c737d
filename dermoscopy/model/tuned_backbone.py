"""A backbone, fine-tuned on the training images and written like any other.

Imports Keras: call `start_keras` first.
"""

import hashlib
import json
import os
import shutil
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import pandas as pd

from dermoscopy.data.groups import group_ids
from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.chunks import ViewChunks, chunk_folder, prune
from dermoscopy.features.engines.choice import Engine, choose_engine, engine_identity, load_engine
from dermoscopy.features.executors.local import LocalExecutor
from dermoscopy.features.extraction import compute_missing
from dermoscopy.features.finetuned import FinetuningInfo, write_finetuning
from dermoscopy.features.networks import Cut, cut_backbone, load_backbone, write_backbone
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.model.finetuning import tune, use_best
from dermoscopy.model.tuning_files import Tuning
from dermoscopy.model.tuning_inputs import DrawnViews, KeptViews, Views
from dermoscopy.runtime.errors import megabytes
from dermoscopy.runtime.files import project_folder
from dermoscopy.runtime.params import Augmentation, EngineName, Features, Finetune
from dermoscopy.runtime.paths import ACTIVATIONS, TUNING

# Of the code that decides the result: a finished tuning under the same key is taken as it is.
TUNING_VERSION = 2
KEEP_TUNINGS = 24  # more than the folds of a cross-validation


def finetune_backbone(
    images: pd.DataFrame,
    source: Path,
    destination: Path,
    finetune: Finetune,
    augmentation: Augmentation,
    features: Features,
) -> FinetuningInfo:
    """Fill an empty folder with the backbone of another one, its top layers trained, or with the note that none is.

    Args:
        images: `image_id, path, sha256, label, part` and lesions; those of train are learnt from, those of validation
            decide when to stop, others are not looked at.
        source: the folder of the frozen backbone.
        destination: the folder to fill.
        finetune: the params.
        augmentation: what the views look like; their number is `finetune.views`.
        features: which engine runs the frozen layers, in float32; Keras has been started on its backend.
    """
    info = read_backbone_info(source)
    backbone = load_backbone(source)
    cut = cut_backbone(backbone, finetune.layers)
    parts = {name: images[images["part"] == name].reset_index(drop=True) for name in ("train", "validation")}
    classes = sorted(images["label"].unique())
    engine = choose_engine(features.engine)

    def tuning_of(cut: Cut) -> Tuning:
        frozen = engine_identity(engine) if cut.trunk else None
        key = tuning_key(parts, classes, info, cut, frozen, finetune, augmentation)
        return Tuning(project_folder() / TUNING / key[:32], finetune)

    with chunk_folder(ACTIVATIONS) as folder:
        tuning = tuning_of(cut)
        if not tuning.finished:
            views: dict[str, Views] | None = None
            if cut.trunk:
                views = keep_views(parts, info, cut.trunk, cut.name, engine, folder, finetune.views, augmentation)
            if views is None:  # images go through all layers
                cut = cut._replace(trunk=None, top=backbone)
                tuning = tuning_of(cut)
                views = {name: DrawnViews(part, augmentation, info.side) for name, part in parts.items()}
            targets = {
                name: pd.Index(classes).get_indexer(pd.Index(part["label"])).astype(np.int32)
                for name, part in parts.items()
            }
            training, validation = ((views[name], targets[name]) for name in parts)
            if not tuning.finished:
                tune(cut, training, validation, len(classes), finetune, tuning)
        os.utime(tuning.folder)
        prune(tuning.folder.parent, KEEP_TUNINGS)
        done = FinetuningInfo(epochs=tuning.done, kept=tuning.best, cut=cut.name, layers=cut.layers)
        if done.kept:
            use_best(cut, tuning, finetune)
    write_finetuning(done, destination)
    if done.kept:
        seen = pd.concat(parts.values())
        seen = seen.assign(group_id=group_ids(seen))[["image_id", "lesion_id", "group_id", "sha256", "part"]]
        seen.to_csv(destination / "tuned_on.csv", index=False)
        weights = backbone.get_weights()
        keras.utils.clear_session()  # it counts the layers, and their names stand in OpenVINO's file
        tuned = load_backbone(source)
        tuned.set_weights(weights)
        write_backbone(tuned, info.name, destination)
    write_log(tuning.history, destination / "log")
    return done


def tuning_key(
    parts: dict[str, pd.DataFrame],
    classes: list[str],
    info: BackboneInfo,
    cut: Cut,
    frozen: str | None,
    finetune: Finetune,
    augmentation: Augmentation,
) -> str:
    """Return what identifies a fine-tuning: a SHA-256 (hexadecimal) of all that decides its result.

    Args:
        parts: the images, by part.
        classes: of all images.
        info: what describes the frozen backbone.
        cut: the backbone, cut.
        frozen: the identity of the engine that runs the trunk; None where there is none.
        finetune: the params.
        augmentation: what the views look like.
    """
    digest = hashlib.sha256()
    for part in parts.values():
        for key, label in zip(image_keys(part), part["label"], strict=True):
            digest.update(key + label.encode() + b"\n")
        digest.update(b"\n")
    made_from = {
        "version": TUNING_VERSION,
        "images": digest.hexdigest(),
        "classes": classes,
        "backbone": info.fingerprint,
        "cut": [cut.name, cut.layers],
        "frozen": frozen,
        "keras": f"{keras.__version__}, {keras.config.backend()} {version(keras.config.backend())}",
        "finetune": finetune.model_dump(),
        "view": view_key("", "", augmentation, 1),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def keep_views(
    parts: dict[str, pd.DataFrame],
    info: BackboneInfo,
    trunk: keras.Model,
    name: str,
    engine: EngineName,
    folder: Path,
    views: int,
    augmentation: Augmentation,
) -> dict[str, Views] | None:
    """Return what the trunk makes of the views of each part, kept in a folder; None where that has no room.

    Validation images are seen as they are, in view 0.
    """
    identity = hashlib.sha256(f"{info.fingerprint} {name}".encode()).hexdigest()
    keys = [view_key(identity, engine_identity(engine), augmentation, view) for view in range(views + 1)]
    shape = trunk.output_shape[1:]
    chunks = {
        part: [
            ViewChunks(folder, key, image_keys(images), shape, np.float16)
            for key in (keys if part == "train" else keys[:1])
        ]
        for part, images in parts.items()
    }
    prune(folder, keep=len(keys))
    missing = sum(of_view.bytes_missing for of_part in chunks.values() for of_view in of_part)
    if missing > 0.9 * shutil.disk_usage(folder).free:
        print(
            f"warning: finetune: what the frozen layers give needs {megabytes(missing)} in {folder}, which are not "
            "free: they run again in every epoch",
            file=sys.stderr,
        )
        return None

    @cache
    def load_trunk() -> Engine:
        write_backbone(trunk, info.name, Path(temporary), ["openvino" if engine == "openvino" else "keras"])
        return load_engine(engine, Path(temporary))

    executor = LocalExecutor(load_trunk)
    with TemporaryDirectory(dir=folder) as temporary:
        for part, images in parts.items():
            compute_missing(images, chunks[part], augmentation, info.side, executor, "finetune: frozen layers")
    return {part: KeptViews(of_part) for part, of_part in chunks.items()}


def write_log(history: list[dict[str, float]], folder: Path) -> None:
    """Write the metrics of each epoch as DVCLive does; step 0 is the frozen backbone."""
    from dvclive import Live
    from dvclive.utils import standardize_metric_name

    with Live(str(folder), save_dvc_exp=False, dvcyaml=None) as live:
        for values in history:
            for name, value in values.items():
                live.log_metric(standardize_metric_name(name, "dvclive.keras"), value)
            live.next_step()
