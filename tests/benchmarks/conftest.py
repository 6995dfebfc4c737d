"""A small project of the kind that the benchmarks measure."""

from typing import Any

import pytest

from benchmarks.variation import make_finished_project
from benchmarks.workspace import Workspace


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project with real Git and DVC, 150 made-up images and features; everything has been run and committed."""
    changes: dict[str, dict[str, Any]] = {
        "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 32},
        "augmentation": {"views": 1},
        "train": {"epochs": 3},
    }
    return make_finished_project(tmp_path_factory.mktemp("variation"), 150, changes)
