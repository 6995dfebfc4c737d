"""A project with a classifier, as the pipeline leaves it, whose head has random weights."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermoscopy.data.images import ImageFile
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.extraction import prepare_views
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.head import Head
from dermoscopy.model.head_info import HeadInfo
from tests.support.params_file import PARAMS

CLASSES = ["bkl", "mel", "nv"]
AUGMENTATION = PARAMS.augmentation
VIEWS = tuple(range(AUGMENTATION.views + 1))
PRIOR = [0.001, 0.009, 0.99]  # so far from uniform that dividing by it changes answers


def compute_features(backbone: Path, files: list[Path]) -> NDArray[np.float32]:
    """Return features, (images, views, dim), as the features stage computes them of images without a name."""
    images = [ImageFile("", str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    size = read_backbone_info(backbone).side
    flat = [view for image in images for view in prepare_views(image, VIEWS, AUGMENTATION, size)]
    return load_engine("openvino", backbone).compute(flat, len(flat)).reshape(len(files), len(VIEWS), -1)


def write_classifier(
    folder: Path,
    backbone: Path,
    features: NDArray[np.float32],
    /,  # a field of HeadInfo has the name backbone too
    clinical: ClinicalEncoder | None = None,
    seed: int = 0,
    **described: Any,
) -> None:
    """Write models/ into a folder: a copy of a backbone, and a head that tells these features, (n, dim), apart.

    With `clinical` the head tells its numbers apart as well.

    Args:
        folder: of the project.
        backbone: its folder.
        features: of images, such as `compute_features` returns them, but (n, dim).
        clinical: how clinical variables become numbers.
        seed: of the random weights.
        described: fields of HeadInfo that are not the usual ones.
    """
    info = HeadInfo.model_validate(
        {
            "classes": CLASSES,
            "prior": PRIOR,
            "class_weights": [1, 1, 1],
            "backbone": read_backbone_info(backbone).fingerprint,
            "augmentation": AUGMENTATION,
            "clinical": clinical,
        }
        | described
    )
    shutil.copytree(backbone, folder / "models/backbone")
    if clinical:
        numbers = np.random.default_rng(1).normal(size=(len(features), len(clinical.names)))
        features = np.concatenate([features, numbers.astype(np.float32)], axis=1)
    mean = features.mean(axis=0, dtype=np.float64)
    kernel = np.random.default_rng(seed).normal(size=(features.shape[1], len(info.classes)))
    kernel /= ((features - mean) @ kernel).std()
    arrays = mean, np.ones(len(mean)), kernel, np.zeros(len(info.classes))
    Head(*(array.astype(np.float32) for array in arrays)).save(folder / "models/head.npz")
    (folder / "models/head.json").write_text(info.model_dump_json(), encoding="utf-8")
