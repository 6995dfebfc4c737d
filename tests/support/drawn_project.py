"""A real project, with Git and DVC, on drawn images: the smallest on which every stage runs."""

from pathlib import Path
from typing import Any

from benchmarks.workspace import Workspace

STAGES = ["download", "manifest", "split", "backbone", "finetune", "features", "train", "evaluate", "report"]
CHANGES: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 100},
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 32},
    "augmentation": {"views": 1},
    "train": {"epochs": 3, "batch_size": 32},
}


def drawn_project(folder: Path, cache: Path, **changes: dict[str, Any]) -> Workspace:
    """Make the project in a folder, with DVC's cache at `cache`, and more params changed, by section."""
    sections = CHANGES | changes
    return Workspace(folder, cache, {name: CHANGES.get(name, {}) | changes.get(name, {}) for name in sections})
