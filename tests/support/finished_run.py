"""The whole pipeline run in this process, a small one, for tests of what comes at its end."""

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages import backbone, download, evaluate, features, manifest, report, split, train
from tests.support.params_file import write_params

PARAMS: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 120},
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 64},
    "augmentation": {"views": 1},
    "train": {"epochs": 20},
}


def run_pipeline(folder: Path) -> None:
    """Run every stage in a folder on drawn images with a random MobileNetV2."""
    write_params(folder, PARAMS)
    with chdir(folder):
        for stage in (download, manifest, split, backbone, features, train, evaluate, report):
            stage.main()


def relabel(folder: Path, copy: Path, classes: list[str]) -> None:
    """Copy a finished run, give its images other classes, each its own lesion, and run again what depends on them."""
    shutil.copytree(folder, copy)
    table = pd.read_csv(copy / "data/raw/labels.csv")
    table["dx"] = np.array(classes)[np.arange(len(table)) % len(classes)]
    table["lesion_id"] = table["image_id"]
    table.to_csv(copy / "data/raw/labels.csv", index=False)
    with chdir(copy):
        for stage in (manifest, split, features, train, evaluate, report):
            stage.main()
