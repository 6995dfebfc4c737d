"""A backbone, fine-tuned on the training images and written like any other.

Imports Keras: call `start_keras` first.
"""

import hashlib
import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from dvclive import Live
from dvclive.utils import standardize_metric_name

from dermoscopy.data.groups import group_ids
from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.chunks import ViewChunks, chunk_folder, prune
from dermoscopy.features.engines.choice import Engine, EngineName, choose_engine, engine_identity, load_engine
from dermoscopy.features.extraction import compute_missing
from dermoscopy.features.finetuned import FinetuningInfo, write_finetuning
from dermoscopy.features.networks import Cut, cut_backbone, load_backbone, write_backbone
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.model.finetuning import Tuning, tune, use_best
from dermoscopy.model.tuning_inputs import DrawnViews, KeptViews, Views
from dermoscopy.runtime.errors import megabytes
from dermoscopy.runtime.files import project_folder, replacing
from dermoscopy.runtime.params import Augmentation, Features, Finetune
from dermoscopy.runtime.paths import ACTIVATIONS, TUNING

# Of model/finetuning.py and model/tuning_inputs.py: a finished tuning under the same key is taken as it is.
TUNING_VERSION = 1
KEEP_TUNINGS = 8


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
        features: which engine runs the frozen layers.
    """
    info = read_backbone_info(source)
    backbone = load_backbone(source)
    cut = cut_backbone(backbone, finetune.layers)
    parts = {name: images[images["part"] == name].reset_index(drop=True) for name in ("train", "validation")}
    with chunk_folder(ACTIVATIONS) as folder:
        engine = choose_engine(features.engine)
        kept = kept_views(parts, info, cut, engine, folder, finetune.views, augmentation)
        if kept and bytes_missing(kept) > 0.9 * shutil.disk_usage(folder).free:
            print(
                f"warning: finetune: what the frozen layers give needs {megabytes(bytes_missing(kept))} in {folder}, "
                "which are not free: they run again in every epoch",
                file=sys.stderr,
            )
            kept = None
        if kept is None:
            cut = cut._replace(trunk=None, top=backbone)
        work = project_folder() / TUNING / tuning_key(parts, info, cut, finetune, augmentation)[:32]
        tuning = Tuning(work, finetune)
        if not tuning.finished:
            views: dict[str, Views] = {name: DrawnViews(part, augmentation, info.side) for name, part in parts.items()}
            if kept and cut.trunk:
                load = partial(load_trunk, cut.trunk, info.name, engine, work / "trunk")
                for name, part in parts.items():
                    compute_missing(part, kept[name], augmentation, info.side, load, "finetune: frozen layers")
                views = {name: KeptViews(chunks) for name, chunks in kept.items()}
                prune(folder, keep=len(kept["train"]))
            classes = sorted(images["label"].unique())
            targets = {
                name: pd.Index(classes).get_indexer(pd.Index(part["label"])).astype(np.int32)
                for name, part in parts.items()
            }
            training, validation = ((views[name], targets[name]) for name in parts)
            tune(cut, training, validation, len(classes), finetune, tuning)
        use_best(cut, tuning)
        os.utime(work)
        prune(work.parent, KEEP_TUNINGS)
    done = FinetuningInfo(epochs=tuning.done, kept=tuning.best, cut=cut.name, layers=cut.layers)
    write_finetuning(done, destination)
    if done.kept:
        seen = pd.concat(parts.values())
        seen.assign(group_id=group_ids(seen))[["image_id", "lesion_id", "group_id", "sha256", "part"]].to_csv(
            destination / "tuned_on.csv", index=False
        )
        backbone.trainable = False
        write_backbone(backbone, info.name, destination)
    write_log(tuning.history, destination / "log")
    return done


def tuning_key(
    parts: dict[str, pd.DataFrame], info: BackboneInfo, cut: Cut, finetune: Finetune, augmentation: Augmentation
) -> str:
    """Return what identifies a fine-tuning: a SHA-256 (hexadecimal) of all that decides its result."""
    digest = hashlib.sha256()
    for part in parts.values():
        for key, label in zip(image_keys(part), part["label"], strict=True):
            digest.update(key + label.encode() + b"\n")
        digest.update(b"\n")
    made_from = {
        "version": TUNING_VERSION,
        "images": digest.hexdigest(),
        "backbone": info.fingerprint,
        "kept": cut.trunk is not None,
        "keras": f"{keras.__version__} {keras.config.backend()}",
        "finetune": finetune.model_dump(),
        "view": view_key("", "", augmentation, 1),
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def kept_views(
    parts: dict[str, pd.DataFrame],
    info: BackboneInfo,
    cut: Cut,
    engine: EngineName,
    folder: Path,
    views: int,
    augmentation: Augmentation,
) -> dict[str, list[ViewChunks]] | None:
    """Return what is kept in a folder of each view of the images of each part; None where there is no trunk.

    Validation images are seen as they are, in view 0.
    """
    if cut.trunk is None:
        return None
    trunk = hashlib.sha256(f"{info.fingerprint} {cut.name}".encode()).hexdigest()
    keys = [view_key(trunk, engine_identity(engine), augmentation, view) for view in range(views + 1)]
    shape = cut.trunk.output_shape[1:]
    return {
        name: [
            ViewChunks(folder, key, image_keys(part), shape, np.float16)
            for key in (keys if name == "train" else keys[:1])
        ]
        for name, part in parts.items()
    }


def bytes_missing(kept: dict[str, list[ViewChunks]]) -> int:
    """Return how much disk it takes to keep what is not there yet."""
    return sum(chunks.bytes_missing for of_part in kept.values() for chunks in of_part)


def load_trunk(trunk: keras.Model, name: str, engine: EngineName, folder: Path) -> Engine:
    """Return an engine for what stays frozen, whose files it writes into a folder."""
    with replacing(folder) as partial_folder:
        partial_folder.mkdir()
        write_backbone(trunk, name, partial_folder)
    return load_engine(engine, folder)


def write_log(history: list[dict[str, float]], folder: Path) -> None:
    """Write the metrics of each epoch as DVCLive does; step 0 is the frozen backbone."""
    with Live(str(folder), save_dvc_exp=False, dvcyaml=None) as live:
        for values in history:
            for name, value in values.items():
                live.log_metric(standardize_metric_name(name, "dvclive.keras"), value)
            live.next_step()
