"""The features of all images: what is missing is computed, and all of it is written into a folder."""

from functools import partial
from pathlib import Path

import pandas as pd

from dermoscopy.features.backbones import read_backbone_info
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
    identity = engine_identity(engine)
    keys = [view_key(described.fingerprint, identity, augmentation, view) for view in range(augmentation.views + 1)]
    images = image_keys(manifest)
    info = FeaturesInfo(
        backbone=described.fingerprint,
        engine=identity,
        augmentation=augmentation,
        dim=described.dim,
        images=len(manifest),
        keys=keys,
        checksum="",
    )
    with chunk_folder() as folder:
        chunks = [ViewChunks(folder, key, images, (described.dim,)) for key in keys]
        load = partial(load_engine, engine, backbone)
        compute_missing(manifest, chunks, augmentation, described.side, load)
        write_features(manifest, chunks, info, destination)
        prune(folder, keep=max(KEEP_VIEWS, len(keys)))
    return info
