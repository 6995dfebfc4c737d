"""A project whose features are made up: a manifest of lesions of two images each, data/features, and params."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from dermoscopy.data.tables import write_table
from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import BACKBONE, FEATURES, MANIFEST
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS, write_params

IMAGES, LESIONS, DIM = 180, 90, 32
CLASSES = ["bkl", "mel", "nv"]


def make_manifest(seed: int = 0) -> pd.DataFrame:
    """Return images of 90 lesions, two of each, in three classes."""
    target = np.random.default_rng(seed).permutation(np.arange(LESIONS) % len(CLASSES))[np.arange(IMAGES) % LESIONS]
    return pd.DataFrame(
        {
            "image_id": [f"image_{number}" for number in range(IMAGES)],
            "label": np.array(CLASSES)[target],
            "lesion_id": [f"lesion_{number % LESIONS}" for number in range(IMAGES)],
            "sha256": [f"{number:064d}" for number in range(IMAGES)],
        }
    )


def write_project(
    folder: Path, manifest: pd.DataFrame, features: ArrayLike, changes: dict[str, dict[str, Any]] | None = None
) -> Params:
    """Write a project with these features, (images, views, dim), and return its params.

    The features are those of `make_manifest`'s images, whatever images the manifest has.
    """
    write_table(manifest, folder / MANIFEST)
    reader = write_feature_folder(folder / FEATURES, np.asarray(features, np.float32))
    name, size = PARAMS.backbone.name, PARAMS.backbone.image_size
    info = BackboneInfo(name=name, image_size=size, dim=reader.info.dim, fingerprint=reader.info.backbone, files={})
    (folder / BACKBONE).mkdir(parents=True)
    (folder / BACKBONE / "backbone.json").write_text(info.model_dump_json(), encoding="utf-8")
    usual: dict[str, dict[str, Any]] = {"train": {"epochs": 30, "learning_rate": 0.03, "batch_size": 32}}
    return load_params(write_params(folder, usual | (changes or {})))
