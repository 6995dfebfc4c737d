"""A project whose features are computed, for all tests that interrupt or starve the stage that does it."""

import shutil
from pathlib import Path

import pytest

from stages import features
from tests.support.finished_run import run_stages
from tests.support.once import made_once
from tests.support.stage_project import make_project

IMAGES, VIEWS, CHUNKS = 600, 2, 6  # three chunks a view: 256, 256 and 88 images of 1,280 numbers
CHUNK_BYTES = IMAGES * VIEWS * (1280 * 4 + 32)  # of all together; data/features takes as much again


@pytest.fixture(scope="session")
def computed_project(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its features, computed without a disturbance; change copies only."""

    def fill(folder: Path) -> None:
        make_project(folder, backbones["first"], IMAGES, views=VIEWS - 1)
        run_stages(folder, [features])

    return made_once(tmp_path_factory, "computed_project", fill)


def copy_without_features(project: Path, folder: Path) -> None:
    """Copy a project as it was before its features were computed."""
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("features", ".features"))
