"""A folder in which stages run: params, drawn images, a manifest and a backbone."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from benchmarks.processes import measured, stage_command, stage_environment
from dermoscopy.features import extraction
from tests.support.params_file import write_params


def draw_images(raw: Path, images: int, width: int = 48, height: int = 36, seed: int = 0) -> None:
    """Write a data/raw of coarse noise in JPEGs, each different, of three classes."""
    random = np.random.default_rng(seed)
    (raw / "images").mkdir(parents=True)
    names = [f"ISIC_{number:07d}" for number in range(images)]
    for name in names:
        coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(raw / f"images/{name}.jpg"), cv2.resize(coarse, (width, height)))
    labels = pd.DataFrame({"image_id": names, "dx": [("nv", "mel", "bcc")[number % 3] for number in range(images)]})
    labels.to_csv(raw / "labels.csv", index=False)


def make_project(folder: Path, backbone: Path, images: int, views: int = 1, **drawing: int) -> None:
    """Fill a folder with all that the features stage reads."""
    draw_images(folder / "data/raw", images, **drawing)
    changes: dict[str, dict[str, Any]] = {"augmentation": {"views": views}, "features": {"engine": "openvino"}}
    write_params(folder, changes)
    use_backbone(folder, backbone)
    table = pd.read_csv(folder / "data/raw/labels.csv")
    paths = [folder / f"data/raw/images/{name}.jpg" for name in table["image_id"]]
    table["path"] = [path.relative_to(folder).as_posix() for path in paths]
    table["sha256"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    table.to_csv(folder / "data/manifest.csv", index=False)


def enter_copy(project: Path, folder: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy a project to `folder`, make that the current one, and its tasks, in this process, of `chunk` images."""
    shutil.copytree(project, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(extraction, "CHUNK", chunk)
    return folder


def use_backbone(folder: Path, backbone: Path) -> None:
    """Put a backbone into a project."""
    shutil.rmtree(folder / "models/backbone", ignore_errors=True)
    shutil.copytree(backbone, folder / "models/backbone")


def chunks(folder: Path) -> dict[Path, int]:
    """Return the finished chunks of a project and when each was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "data/.features").glob("*/[!.]*.chunk")}


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of each file in a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run_stage(folder: Path, stage: str) -> subprocess.CompletedProcess[str]:
    """Run a stage as a process, and measure it: the last line of stdout is its peak memory in kilobytes."""
    return subprocess.run(
        measured(stage_command(stage)),
        cwd=folder,
        env=stage_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
