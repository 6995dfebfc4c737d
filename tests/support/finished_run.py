"""A small run of the whole pipeline in this process, for tests of what comes at its end."""

import shutil
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from dermoscopy.runtime.commands import sections_of
from stages import download, evaluate, features, finetune, listing, manifest, report, split, train
from tests.support.params_file import write_params

PARAMS: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 100},
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 64},  # backbones["first"]
    "augmentation": {"views": 1},
    "train": {"epochs": 20},
}


def run_stages(folder: Path, stages: Iterable[ModuleType]) -> None:
    """Run stages in a folder."""
    with chdir(folder):
        for stage in stages:
            stage.main(**sections_of(stage.main))


def fill_run(folder: Path, backbone: Path) -> None:
    """Run every stage but `backbone` in a folder, on drawn images, with a backbone that is there already."""
    write_params(folder, PARAMS)
    shutil.copytree(backbone, folder / "models/backbone")
    run_stages(folder, [listing, download, manifest, split, finetune, features, train, evaluate, report])


def fill_relabelled_run(folder: Path, run: Path, classes: list[str]) -> None:
    """Copy a finished run, give its images other classes, each its own lesion, and run again what depends on them."""
    shutil.copytree(run, folder, dirs_exist_ok=True)
    table = pd.read_csv(folder / "data/raw/labels.csv")
    table["dx"] = np.array(classes)[np.arange(len(table)) % len(classes)]
    table["lesion_id"] = table["image_id"]
    table.to_csv(folder / "data/raw/labels.csv", index=False)
    run_stages(folder, [manifest, split, finetune, features, train, evaluate, report])
