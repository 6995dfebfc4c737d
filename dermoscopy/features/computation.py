"""The features of all images: what is missing is computed, and all of it is written into a folder."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pandas as pd

from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.chunks import KEEP_VIEWS, ViewChunks, chunk_folder, prune
from dermoscopy.features.engines.choice import choose_engine, engine_identity, load_engine
from dermoscopy.features.executors.local import LocalExecutor
from dermoscopy.features.extraction import Executor, compute_missing
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
    images = image_keys(manifest)
    with backbone_executor(backbone, features, example=manifest["path"].iloc[0]) as (executor, engine):
        info = features_info(described, engine, augmentation, len(manifest))
        with chunk_folder() as folder:
            chunks = [ViewChunks(folder, key, images, (described.dim,)) for key in info.keys]
            compute_missing(manifest, chunks, augmentation, described.side, executor)
            write_features(manifest, chunks, info, destination)
            prune(folder, keep=max(KEEP_VIEWS, info.views))
    return info


@contextmanager
def backbone_executor(backbone: Path, features: Features, example: str) -> Iterator[tuple[Executor, str]]:
    """Give what runs a backbone, and the identity of its engine: the cluster of RAY_ADDRESS, or else this process.

    Args:
        backbone: its folder.
        features: which engine runs it.
        example: the path of one of the images.

    Raises:
        PipelineError: the engine or the cluster cannot be used.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        from dermoscopy.features.executors.cluster import ClusterExecutor

        with closing(ClusterExecutor(address, features, backbone, example)) as cluster:
            yield cluster, cluster.identity()
    else:
        engine = choose_engine(features.engine)
        load = partial(load_engine, engine, backbone, features.precision)
        yield LocalExecutor(load), engine_identity(engine, features.precision)


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
