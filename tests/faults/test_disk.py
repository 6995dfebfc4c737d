"""A disk that is full or read-only: one line, nothing half-written, and a rerun that finishes."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.workspace import Workspace, executed
from dermoscopy.features.backbones import build_backbone, save_backbone
from dermoscopy.features.networks import convert_to_openvino
from dermoscopy.runtime.errors import DiskError
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.workspace import PROJECT, environment
from tests.faults.test_interruption import CHANGES, PIPELINE, forget, outputs
from tests.support.small_disk import filled, remount, small_disk
from tests.support.stage_project import chunks, contents, make_project, run_stage


class Finished(NamedTuple):
    """A finished run on a small disk, and its outputs by path as SHA-256."""

    workspace: Workspace
    outputs: dict[str, str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    disk = tmp_path_factory.mktemp("disk") / "small"
    with small_disk(disk, megabytes=150):
        workspace = Workspace(disk / "project", disk / "cache", CHANGES)
        workspace.dvc("repro")
        yield Finished(workspace, outputs(workspace.folder))


def refusal(folder: Path, stage: str) -> str:
    """Run a stage that has to fail, and return its one line."""
    command = [sys.executable, "-m", f"stages.{stage}"]
    environ = environment() | {"PYTHONPATH": str(PROJECT)}  # the folder itself comes first
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    lines = [line for line in result.stderr.splitlines() if line and not line.lstrip("\r").startswith(BARS)]
    assert (result.returncode, len(lines)) == (1, 1), result.stderr
    return lines[0]


BARS = ("drawing:", "manifest:", "features:")  # progress


def partial_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".partial.*") if ".dvc" not in path.parts]


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_full_disk_is_one_line_and_a_rerun_with_room_finishes(finished: Finished, stage: str) -> None:
    folder = finished.workspace.folder
    if stage == "features":
        for chunk in (folder / "data/.features").rglob("*.chunk"):
            chunk.unlink()
    with filled(folder.parent, leave=4096):
        line = refusal(folder, stage)
        assert re.search(r"needs (more than the )?[\d,.]+ MB(, and [\d.]+ MB are| that are) free", line), line
        assert partial_files(folder) == []
        assert outputs(folder) == finished.outputs
    finished.workspace.python("-m", f"stages.{stage}")
    assert outputs(folder) == finished.outputs


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_read_only_disk_is_one_line(finished: Finished, stage: str) -> None:
    folder = finished.workspace.folder
    remount(folder.parent, "ro")
    try:
        assert refusal(folder, stage).startswith("error: Read-only file system: ")
    finally:
        remount(folder.parent, "rw")
    assert outputs(folder) == finished.outputs


@pytest.mark.parametrize("stage", ["download", "features"])
def test_dvc_on_a_full_disk_loses_nothing(finished: Finished, stage: str) -> None:
    folder = finished.workspace.folder
    forget(finished.workspace, stage)
    for path in ("data/raw",) if stage == "download" else ("data/features", "data/.features"):
        shutil.rmtree(folder / path)
    with filled(folder.parent, leave=200_000):
        output = finished.workspace.dvc("repro", status=255)
        assert len(re.findall(r"^error: data/\S+ needs .* free", output, re.MULTILINE)) == 1, output
    assert executed(finished.workspace.dvc("repro")) == [stage]
    assert outputs(folder) == finished.outputs


@pytest.mark.parametrize("form", ["keras", "openvino"])
def test_a_model_that_does_not_fit_leaves_nothing(keras: Any, tmp_path: Path, form: str) -> None:
    model = build_backbone("MobileNetV2", None, 64)
    with small_disk(tmp_path / "small", megabytes=4):
        target = tmp_path / "small/backbone"
        # `replacing` is what raises, when it ends; the line is too long for both in one `with`
        with pytest.raises(DiskError, match=r"backbone needs more than the 4\.\d MB that are free there"):  # noqa: PT012, SIM117
            with replacing(target) as folder:
                folder.mkdir()
                if form == "keras":
                    save_backbone(model, folder)
                else:
                    convert_to_openvino(model, folder / "backbone.xml")
        assert list(target.parent.iterdir()) == []


IMAGES = 600  # three chunks a view: 256, 256 and 88 images of 1,280 numbers
STORE_BYTES = 2 * IMAGES * (1280 * 4 + 32)  # with two views; data/features takes as much again


@pytest.mark.parametrize(
    ("room", "finished"),
    [(100_000, 0), (2_000_000, 1), (4_500_000, 3), (1.02 * STORE_BYTES, 6), (1.8 * STORE_BYTES, 6)],
    ids=["first chunk", "second view of the first chunk", "second chunk", "features", "almost"],
)
def test_a_disk_that_fills_up_keeps_the_chunks_that_are_finished(
    backbones: dict[str, Path], tmp_path: Path, room: float, finished: int
) -> None:
    project = tmp_path / "small/project"
    with small_disk(tmp_path / "small", megabytes=100):
        make_project(project, backbones["first"], IMAGES)
        with filled(tmp_path / "small", leave=int(room)):
            line = refusal(project, "features")
            assert re.search(r"needs (more than the )?[\d,.]+ MB(, and [\d.]+ MB are| that are) free", line), line
            kept = chunks(project)
            assert len(kept) == finished
            assert partial_files(project) == []
            assert not (project / "data/features").exists()
        assert run_stage(project, "features").returncode == 0
        assert chunks(project).items() >= kept.items()
        assert len(chunks(project)) == 6
        made = contents(project / "data/features")
        shutil.rmtree(project / "data/.features")
        assert run_stage(project, "features").returncode == 0
        assert contents(project / "data/features") == made
