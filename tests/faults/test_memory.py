"""The peak memory of a stage, measured on real processes, does not grow with the number of images."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.processes import measure_command
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import write_params
from tests.support.stage_project import make_project, run_stage

pytestmark = pytest.mark.slow

FEW, MANY = 300, 3_000
DIM, VIEWS = 1_536, 5  # of InceptionResNetV2 with the default views

TRAIN_WITHOUT_HOLDING = """
import runpy
from dermoscopy.features import store
store.HELD = 0
runpy.run_module("stages.train", run_name="__main__")
"""


def peak(folder: Path, stage: str) -> int:
    """Run a stage and return its peak memory in kilobytes."""
    result = run_stage(folder, stage)
    assert result.returncode == 0, result.stderr
    return int(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def images(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Projects with few and with many images of HAM10000's size."""
    folders = {}
    for count in (FEW, MANY):
        folders[count] = tmp_path_factory.mktemp(f"images_{count}")
        make_project(folders[count], backbones["first"], count, views=4, width=600, height=450)
    return folders


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Projects with the features of few and of many images, made up."""
    folders = {}
    for count in (FEW, MANY):
        folder = folders[count] = tmp_path_factory.mktemp(f"features_{count}")
        random = np.random.default_rng(0)
        features = random.standard_normal((count, VIEWS, DIM), np.float32)
        names = list(write_feature_folder(folder / "data/features", features).image_ids)
        labels = random.choice(["bcc", "mel", "nv"], count)
        parts = random.choice(["train", "validation", "test"], count, p=[0.7, 0.15, 0.15])
        pd.DataFrame({"image_id": names, "label": labels}).to_csv(folder / "data/manifest.csv", index=False)
        pd.DataFrame({"image_id": names, "part": parts}).to_csv(folder / "data/split.csv", index=False)
        write_params(folder, {"train": {"epochs": 2}})
    return folders


@pytest.mark.parametrize("stage", ["manifest", "features"])
def test_ten_times_the_images_take_no_more_memory(images: dict[int, Path], stage: str) -> None:
    assert peak(images[MANY], stage) < 1.1 * peak(images[FEW], stage)


def test_training_on_ten_times_the_images_takes_no_more_memory_where_features_are_not_held(
    training: dict[int, Path],
) -> None:
    few, many = (measure_command([sys.executable, "-c", TRAIN_WITHOUT_HOLDING], training[n]) for n in (FEW, MANY))
    assert many.megabytes < 1.1 * few.megabytes
    held = peak(training[MANY], "train") / 1000 - many.megabytes
    assert 0.5 * MANY * DIM * VIEWS * 4 < held * 1e6 < 1.5 * MANY * DIM * VIEWS * 4
