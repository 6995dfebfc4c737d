"""A disk that is full or read-only: one line, nothing half-written, and a rerun that finishes."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.workspace import executed
from dermoscopy.runtime.errors import DiskError
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.workspace import PROJECT, environment
from tests.faults.conftest import CHUNK_BYTES, CHUNKS, copy_without_features
from tests.support.dvc_run import PIPELINE, DvcRun, made_dvc_run, outputs
from tests.support.small_disk import filled, remount, small_disk
from tests.support.stage_project import chunks, contents, run_stage


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DvcRun]:
    """A finished run on a small disk; each test leaves it as it was."""
    original = made_dvc_run(tmp_path_factory)
    disk = tmp_path_factory.mktemp("disk") / "small"
    with small_disk(disk, megabytes=150):
        yield DvcRun(original, disk / "run")


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


@pytest.mark.slow
# listing has nothing to list, and a backbone that stays frozen takes a line
@pytest.mark.parametrize("stage", [stage for stage in PIPELINE if stage not in ("listing", "finetune")])
def test_a_full_disk_is_one_line_and_a_rerun_with_room_finishes(finished: DvcRun, stage: str) -> None:
    folder = finished.folder
    if stage == "features":
        for chunk in (folder / "data/.features").rglob("*.chunk"):
            chunk.unlink()
    with filled(folder.parents[1], leave=4096):
        line = refusal(folder, stage)
        assert re.search(r"needs (more than the )?[\d,.]+ MB(, and [\d.]+ MB are| that are) free", line), line
        assert partial_files(folder) == []
        assert outputs(folder) == finished.expected
    finished.python("-m", f"stages.{stage}")
    assert outputs(folder) == finished.expected


@pytest.mark.slow
@pytest.mark.parametrize("stage", PIPELINE)
def test_a_read_only_disk_is_one_line(finished: DvcRun, stage: str) -> None:
    folder = finished.folder
    remount(folder.parents[1], "ro")
    try:
        assert refusal(folder, stage).startswith("error: Read-only file system: ")
    finally:
        remount(folder.parents[1], "rw")
    assert outputs(folder) == finished.expected


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["download", "features"])
def test_dvc_on_a_full_disk_loses_nothing(finished: DvcRun, stage: str) -> None:
    folder = finished.folder
    finished.forget(stage)
    for path in ("data/raw",) if stage == "download" else ("data/features", "data/.features"):
        shutil.rmtree(folder / path)
    with filled(folder.parents[1], leave=200_000):
        output = finished.dvc("repro", status=255)
        assert len(re.findall(r"^error: \S*data/\S+ needs .* free", output, re.MULTILINE)) == 1, output
    assert executed(finished.dvc("repro")) == [stage]
    assert outputs(folder) == finished.expected


@pytest.mark.parametrize("form", ["keras", "openvino"])
def test_a_model_that_does_not_fit_leaves_nothing(keras: Any, tmp_path: Path, form: str) -> None:
    from dermoscopy.features.conversion import convert_to_openvino
    from dermoscopy.features.networks import save_keras_files

    image = keras.Input((32, 32, 3))
    model = keras.Model([image], keras.layers.Conv2D(50_000, 3, strides=32)(image))  # 5.6 MB
    with small_disk(tmp_path / "small", megabytes=4):
        target = tmp_path / "small/backbone"
        # `replacing` is what raises, when it ends; the line is too long for both in one `with`
        with pytest.raises(DiskError, match=r"backbone needs more than the 4\.\d MB that are free there"):  # noqa: PT012, SIM117
            with replacing(target) as folder:
                folder.mkdir()
                if form == "keras":
                    save_keras_files(model, folder)
                else:
                    convert_to_openvino(model, folder / "backbone.xml")
        assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("room", "finished"),
    [
        pytest.param(100_000, 0, id="first chunk", marks=pytest.mark.slow),
        pytest.param(2_000_000, 1, id="second view of the first chunk", marks=pytest.mark.slow),
        pytest.param(4_500_000, 3, id="second chunk"),
        pytest.param(1.02 * CHUNK_BYTES, CHUNKS, id="features", marks=pytest.mark.slow),
        pytest.param(1.8 * CHUNK_BYTES, CHUNKS, id="almost", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_fills_up_keeps_the_chunks_that_are_finished(
    computed_project: Path, tmp_path: Path, room: float, finished: int
) -> None:
    project = tmp_path / "small/project"
    with small_disk(tmp_path / "small", megabytes=100):
        copy_without_features(computed_project, project)
        with filled(tmp_path / "small", leave=int(room)):
            line = refusal(project, "features")
            assert re.search(r"needs (more than the )?[\d,.]+ MB(, and [\d.]+ MB are| that are) free", line), line
            kept = chunks(project)
            assert len(kept) == finished
            assert partial_files(project) == []
            assert not (project / "data/features").exists()
        assert run_stage(project, "features").returncode == 0
        assert chunks(project).items() >= kept.items()
        assert len(chunks(project)) == CHUNKS
        assert contents(project / "data/features") == contents(computed_project / "data/features")
