"""Killed or interrupted at any moment, the pipeline is made good by the next `dvc repro`.

`make soak` repeats the interruptions: SOAK_ROUNDS of each kind, begun within SOAK_MINUTES.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from benchmarks.workspace import Workspace, executed
from dermoscopy.runtime.workspace import PROJECT, environment

PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "1"))
DEADLINE = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))
CHANGES: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 300},  # two chunks of features a view
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 64},
    "augmentation": {"views": 1},
    "train": {"epochs": 5},
}


class Finished(NamedTuple):
    """A finished run: its workspace, its outputs by path as SHA-256, and the seconds that each stage took."""

    workspace: Workspace
    outputs: dict[str, str]
    seconds: dict[str, float]


def outputs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that a stage has written, by path."""
    paths: list[Path] = []
    for stage in PIPELINE.values():
        for kind in ("outs", "metrics", "plots"):
            for out in stage.get(kind, []):
                path = folder / (out if isinstance(out, str) else next(iter(out)))
                paths += path.rglob("*") if path.is_dir() else [path]
    files = sorted(path for path in paths if not path.is_dir())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def chunks(folder: Path) -> dict[Path, int]:
    """Return when each finished chunk of features was written."""
    return {path: path.stat().st_mtime_ns for path in (folder / "data/.features").glob("*/*.chunk")}


def forget(workspace: Workspace, stage: str) -> None:
    """Let DVC forget what a stage gave, or it would restore that from its cache instead of running the stage."""
    shutil.rmtree(workspace.folder.parent / "cache/runs", ignore_errors=True)
    lock = workspace.folder / "dvc.lock"
    content = yaml.safe_load(lock.read_text())
    content["stages"].pop(stage, None)
    lock.write_text(yaml.safe_dump(content))


def recorded(lock: bytes, stage: str) -> dict[str, Any] | None:
    """Return what a dvc.lock says of all stages but one, or None if it is no YAML."""
    try:
        content = yaml.safe_load(lock) or {}
    except yaml.YAMLError:
        return None
    return {name: entry for name, entry in content.get("stages", {}).items() if name != stage}


def repro_with_remedy(workspace: Workspace, log: Path, lock_before: bytes) -> list[str]:
    """Return the stages that `dvc repro` executes; where DVC refuses a file that it was killed in writing, as the
    README says, it is put back or removed, and `dvc repro` called again.
    """
    process = start_repro(workspace, log)
    if process.wait() != 0:
        said = log.read_text(errors="replace")
        if "dvc.lock" in said and ("validation failed" in said or "is invalid" in said):
            (workspace.folder / "dvc.lock").write_bytes(lock_before)
            REMEDIES.append("dvc.lock")
        elif "is corrupted" in said:
            (workspace.folder / ".dvc/tmp/rwlock").unlink()
            REMEDIES.append("rwlock")
        process = start_repro(workspace, log)
        assert process.wait() == 0, said
    return executed(log.read_text(errors="replace"))


def start_repro(workspace: Workspace, log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start `dvc repro` as a process group of its own, with its output going to a file."""
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", *arguments],
            cwd=workspace.folder,
            env=environment(),
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_for(process: "subprocess.Popen[bytes]", log: Path, text: str) -> None:
    """Return as soon as a running process has said something."""
    while text not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text(errors="replace")
        time.sleep(0.005)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("interruption")
    workspace = Workspace(folder / "project", folder / "cache", CHANGES)
    log = folder / "log"
    process = start_repro(workspace, log)
    begun = {}
    for stage in PIPELINE:
        wait_for(process, log, f"Running stage '{stage}'")
        begun[stage] = time.monotonic()
    assert process.wait() == 0, log.read_text()
    order = [*begun.values(), time.monotonic()]
    seconds = {stage: end - start for stage, start, end in zip(begun, order, order[1:], strict=False)}
    yield Finished(workspace, outputs(workspace.folder), seconds)
    print(f"\n{len(COUNTED)} interruptions, remedies needed: {REMEDIES}")
    for key in sorted(set(COUNTED)):
        print(f"  {key[0]} in {key[1]}: {COUNTED.count(key)}")


COUNTED: list[tuple[str, str]] = []
REMEDIES: list[str] = []
# What Python says of DVC's own progress bar where the interruption comes while that is being made.
UNMADE_BAR = (
    r"Exception ignored in: <function tqdm\.__del__[^\n]*\n"
    r"Traceback[^\n]*\n(?:  [^\n]*\n)+AttributeError: [^\n]*'postfix'\n"
)


@pytest.mark.parametrize("stage", PIPELINE)
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
@pytest.mark.timeout(7200)
def test_an_interrupted_stage_is_made_good_by_the_next_repro(
    finished: Finished, stage: str, kind: signal.Signals, tmp_path: Path
) -> None:
    folder = finished.workspace.folder
    random = np.random.default_rng([kind, list(PIPELINE).index(stage)])
    landed = 0
    while landed < ROUNDS:  # a stage that ends first is run again
        if time.monotonic() > DEADLINE:
            pytest.skip(f"SOAK_MINUTES are over after {landed} rounds")
        forget(finished.workspace, stage)
        if stage == "features":
            shutil.rmtree(folder / "data/.features")
        log, lock = tmp_path / "log", folder / "dvc.lock"
        before = lock.read_bytes()
        process = start_repro(finished.workspace, log, "--force", "--single-item", stage)
        wait_for(process, log, f"Running stage '{stage}'")
        time.sleep(random.uniform(0, finished.seconds[stage]))
        if process.poll() is None:
            os.killpg(process.pid, kind)
            COUNTED.append((kind.name, stage))
            landed += 1
        process.wait()
        assert "Traceback" not in re.sub(UNMADE_BAR, "", log.read_text(errors="replace"))
        kept = chunks(folder)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(f"{stage}: ")]
        stood = any("%" not in line for line in said)  # more than a progress bar: its outputs stood already
        # DVC writes dvc.lock in place: a kill in this moment may leave its beginning only, and then more stages run
        whole = recorded(lock.read_bytes(), stage) == recorded(before, stage)
        again = repro_with_remedy(finished.workspace, log, before)
        assert again == [stage] or (stood and again == []) or not whole
        assert outputs(folder) == finished.outputs
        assert chunks(folder).items() >= kept.items()


def test_a_second_repro_at_the_same_time_is_refused_and_the_first_finishes(finished: Finished, tmp_path: Path) -> None:
    forget(finished.workspace, "train")
    log = tmp_path / "log"
    process = start_repro(finished.workspace, log)
    wait_for(process, log, "Running stage 'train'")
    refusal = finished.workspace.dvc("repro", status=255)
    assert "is busy, it is being blocked by" in refusal
    assert "Traceback" not in refusal
    assert process.wait() == 0
    assert outputs(finished.workspace.folder) == finished.outputs


def test_params_that_change_in_mid_run_are_never_recorded_as_what_made_the_outputs(
    finished: Finished, tmp_path: Path
) -> None:
    workspace, folder = finished.workspace, finished.workspace.folder
    forget(workspace, "train")
    params = folder / "params.yaml"
    text = params.read_text()
    log = tmp_path / "log"
    process = start_repro(workspace, log)
    wait_for(process, log, "Running stage 'train'")
    while not (folder / "metrics/training/metrics.json").exists():
        time.sleep(0.01)
    params.write_text(text.replace("dropout: 0.5", "dropout: 0.4"))
    assert process.wait() == 255
    lines = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert lines == ["error: params.yaml: train.dropout was changed while the stage ran: run dvc repro again"]
    assert executed(workspace.dvc("repro")) == ["train", "evaluate", "report"]
    assert outputs(folder)["data/predictions.csv"] != finished.outputs["data/predictions.csv"]
    params.write_text(text)
    workspace.dvc("repro")
    assert outputs(folder) == finished.outputs


def test_a_clock_that_jumps_back_changes_nothing(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are dated a day ahead, and in mid-run each process sees its clock set back by a day."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("this test needs a C compiler, to set the clock back for its processes alone")
    library = tmp_path / "clock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", library, Path(__file__).with_name("clock.c"), "-ldl"], check=True
    )
    folder = finished.workspace.folder
    tomorrow = time.time() + 86_400
    for path in folder.rglob("*"):
        if ".dvc" not in path.parts and ".git" not in path.parts:
            os.utime(path, (tomorrow, tomorrow))
    kept = chunks(folder)
    for stage in PIPELINE:
        forget(finished.workspace, stage)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    assert sorted(executed(finished.workspace.dvc("repro"))) == sorted(PIPELINE)
    assert outputs(folder) == finished.outputs
    assert chunks(folder) == kept
