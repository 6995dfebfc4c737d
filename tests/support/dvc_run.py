"""A finished `dvc repro` on drawn images: made once a session, and copied by each module that does harm to it."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.workspace import Workspace
from dermoscopy.runtime.workspace import PROJECT, environment
from tests.support.once import made_once

PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
CHANGES: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 300},  # two chunks of features a view
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 64},
    "augmentation": {"views": 1},
    "train": {"epochs": 5},
}


class DvcRun(Workspace):
    """A copy of the finished run, with a DVC cache of its own.

    Attributes:
        folder: the project.
        cache: of DVC, beside it.
        expected: its outputs by path, as SHA-256.
        seconds: how long each stage took.
    """

    def __init__(self, original: Path, folder: Path) -> None:
        """Copy what `made_dvc_run` returned into a folder that does not exist yet."""
        shutil.copytree(original, folder, symlinks=True)
        self.folder = folder / "project"
        self.cache = folder / "cache"
        self.dvc("config", "--local", "cache.dir", str(self.cache))
        self.expected = outputs(self.folder)
        self.seconds: dict[str, float] = json.loads((folder / "seconds.json").read_text())

    def forget(self, stage: str) -> None:
        """Let DVC forget a stage's results, or it would restore them from its cache instead of running the stage."""
        shutil.rmtree(self.cache / "runs", ignore_errors=True)
        lock = self.folder / "dvc.lock"
        content = yaml.safe_load(lock.read_text())
        content["stages"].pop(stage, None)
        lock.write_text(yaml.safe_dump(content))

    def start_repro(self, log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start `dvc repro` as a process group of its own, with its output going to a file."""
        return start_repro(self.folder, log, *arguments)


def outputs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a stage of a project has written, by path."""
    paths: list[Path] = []
    for stage in PIPELINE.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                path = folder / (out if isinstance(out, str) else next(iter(out)))
                paths += path.rglob("*") if path.is_dir() else [path]
    files = sorted(path for path in paths if not path.is_dir())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start_repro(project: Path, log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *arguments],
            cwd=project,
            env=environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(process: "subprocess.Popen[bytes]", log: Path, text: str) -> None:
    """Return as soon as a running process has printed something."""
    while text not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.005)


def made_dvc_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the finished run, for `DvcRun`: the project, its cache, and the seconds of each stage."""

    def fill(folder: Path) -> None:
        workspace, log = Workspace(folder / "project", folder / "cache", CHANGES), folder / "log"
        process = start_repro(workspace.folder, log)
        begun = {}
        for stage in PIPELINE:
            wait_for(process, log, f"Running stage '{stage}'")
            begun[stage] = time.monotonic()
        assert process.wait() == 0, log.read_text()
        order = [*begun.values(), time.monotonic()]
        seconds = {stage: end - start for stage, start, end in zip(begun, order, order[1:], strict=False)}
        (folder / "seconds.json").write_text(json.dumps(seconds))

    return made_once(tmp_path_factory, "dvc_run", fill)
