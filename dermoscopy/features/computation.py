"""The features of all images: what is missing is computed, and all of it is written into a folder."""

from functools import partial
from pathlib import Path

import pandas as pd

from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.chunks import KEEP_VIEWS, ViewChunks, chunk_folder, prune
from dermoscopy.features.engines.choice import choose_engine, engine_identity, load_engine
from dermoscopy.features.extraction import compute_missing
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.features.store import FeaturesInfo, write_features
from dermoscopy.runtime.params import Augmentation, Features


def compute_features(
    manifest: pd.DataFrame, backbone: Path, destination: Path, augmentation: Augmentation, features: Features
) -> FeaturesInfo:
    """Write the features of all views of all images into a folder; what was computed before is taken from its chunks.

    Args:
        manifest: `image_id, path, sha256` of the images.
        backbone: the folder that has it.
        destination: the folder to write, data/features.
        augmentation: what the views look like.
        features: which engine runs the backbone.

    Returns:
        What made them.
    """
    described = read_backbone_info(backbone)
    engine = choose_engine(features.engine)
    info = features_info(described, engine_identity(engine), augmentation, len(manifest))
    images = image_keys(manifest)
    with chunk_folder() as folder:
        chunks = [ViewChunks(folder, key, images, (described.dim,)) for key in info.keys]
        load = partial(load_engine, engine, backbone)
        compute_missing(manifest, chunks, augmentation, described.side, load)
        write_features(manifest, chunks, info, destination)
        prune(folder, keep=max(KEEP_VIEWS, info.views))
    return info


def features_info(backbone: BackboneInfo, engine: str, augmentation: Augmentation, images: int) -> FeaturesInfo:
    """Return what makes the features of so many images, still without a checksum.

    Args:
        backbone: what describes it.
        engine: the identity of the one that runs it.
        augmentation: what the views look like.
        images: how many.
    """
    views = range(augmentation.views + 1)
    return FeaturesInfo(
        backbone=backbone.fingerprint,
        engine=engine,
        augmentation=augmentation,
        dim=backbone.dim,
        images=images,
        keys=[view_key(backbone.fingerprint, engine, augmentation, view) for view in views],
        checksum="",
    )
