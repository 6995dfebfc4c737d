"""Killed or interrupted at any moment, the pipeline is completed by the next `dvc repro`.

`make soak` repeats the interruptions: SOAK_ROUNDS of each kind, begun within SOAK_MINUTES.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from benchmarks.processes import stage_command, stage_environment
from benchmarks.workspace import executed
from dermoscopy.runtime.workspace import PROJECT
from tests.faults.conftest import CHUNKS, copy_without_features
from tests.support.dvc_run import PIPELINE, DvcRun, made_dvc_run, outputs, wait_for
from tests.support.stage_project import chunks, contents, run_stage

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "1"))
DEADLINE = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60"))


@pytest.mark.parametrize(
    ("kind", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["SIGKILL", "SIGINT"]
)
def test_an_interrupted_features_stage_goes_on_from_its_last_chunk(
    computed_project: Path, tmp_path: Path, kind: signal.Signals, status: int
) -> None:
    folder = tmp_path / "project"
    copy_without_features(computed_project, folder)
    process = subprocess.Popen(
        stage_command("features"), cwd=folder, env=stage_environment(), stderr=subprocess.PIPE, text=True
    )
    while not chunks(folder):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(kind)
    _, printed = process.communicate()
    assert process.returncode == status
    assert "Traceback" not in printed
    kept = chunks(folder)
    assert 0 < len(kept) < CHUNKS
    assert not (folder / "data/features").exists()
    result = run_stage(folder, "features")
    assert result.returncode == 0, result.stderr
    assert chunks(folder).items() >= kept.items()
    assert contents(folder / "data/features") == contents(computed_project / "data/features")


def recorded(lock: bytes, stage: str) -> dict[str, Any] | None:
    """Return what a dvc.lock says of all stages but one, or None if it is no YAML."""
    try:
        content = yaml.safe_load(lock) or {}
    except yaml.YAMLError:
        return None
    return {name: entry for name, entry in content.get("stages", {}).items() if name != stage}


def repro_with_remedy(workspace: DvcRun, log: Path, lock_before: bytes) -> list[str]:
    """Return the stages that `dvc repro` executes; where DVC refuses a file that it was killed in writing, as the
    docs/reliability.md says, it is put back or removed, and `dvc repro` called again.
    """
    process = workspace.start_repro(log)
    if process.wait() != 0:
        said = log.read_text(errors="replace")
        if "dvc.lock" in said and ("validation failed" in said or "is invalid" in said):
            (workspace.folder / "dvc.lock").write_bytes(lock_before)
            REMEDIES.append("dvc.lock")
        elif "is corrupted" in said:
            (workspace.folder / ".dvc/tmp/rwlock").unlink()
            REMEDIES.append("rwlock")
        process = workspace.start_repro(log)
        assert process.wait() == 0, said
    return executed(log.read_text(errors="replace"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DvcRun]:
    """A finished run; each test leaves it as it was."""
    yield DvcRun(made_dvc_run(tmp_path_factory), tmp_path_factory.mktemp("interruption") / "run")
    print(f"\n{len(COUNTED)} interruptions, remedies needed: {REMEDIES}")
    for key in sorted(set(COUNTED)):
        print(f"  {key[0]} in {key[1]}: {COUNTED.count(key)}")


COUNTED: list[tuple[str, str]] = []
REMEDIES: list[str] = []
# A traceback with a line of our code; DVC's own, where the interruption comes before or after a stage, are not ours.
OUR_TRACEBACK = r'Traceback[^\n]*\n(?: [^\n]*\n)*? +File "[^"\n]*/(?:stages|dermoscopy)/'


@pytest.mark.slow
@pytest.mark.parametrize("stage", PIPELINE)
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
@pytest.mark.timeout(7200)
def test_an_interrupted_stage_is_completed_by_the_next_repro(
    finished: DvcRun, stage: str, kind: signal.Signals, tmp_path: Path
) -> None:
    folder = finished.folder
    random = np.random.default_rng([kind, list(PIPELINE).index(stage)])
    landed = 0
    while landed < ROUNDS:  # a stage that ends first is run again
        if time.monotonic() > DEADLINE:
            pytest.skip(f"SOAK_MINUTES are over after {landed} rounds")
        finished.forget(stage)
        if stage == "features":
            shutil.rmtree(folder / "data/.features")
        log, lock = tmp_path / "log", folder / "dvc.lock"
        before = lock.read_bytes()
        process = finished.start_repro(log, "--force", "--single-item", stage)
        wait_for(process, log, f"Running stage '{stage}'")
        time.sleep(random.uniform(0, finished.seconds[stage]))
        if process.poll() is None:
            os.killpg(process.pid, kind)
            COUNTED.append((kind.name, stage))
            landed += 1
        process.wait()
        assert not re.search(OUR_TRACEBACK, log.read_text(errors="replace"))
        kept = chunks(folder)
        said = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(f"{stage}: ")]
        stood = any("%" not in line for line in said)  # more than a progress bar: its outputs stood already
        # DVC writes dvc.lock in place: a kill in this moment may leave its beginning only, and then more stages run
        whole = recorded(lock.read_bytes(), stage) == recorded(before, stage)
        again = repro_with_remedy(finished, log, before)
        expected = [stage] if stage != "listing" else []  # it always runs, and is not counted
        assert again == expected or (stood and again == []) or not whole
        assert outputs(folder) == finished.expected
        assert chunks(folder).items() >= kept.items()


@pytest.mark.slow
def test_a_second_repro_at_the_same_time_is_refused_and_the_first_finishes(finished: DvcRun, tmp_path: Path) -> None:
    finished.forget("backbone")  # it takes longer than a second DVC needs to get there
    log = tmp_path / "log"
    process = finished.start_repro(log)
    wait_for(process, log, "Running stage 'backbone'")
    refusal = finished.dvc("repro", status=255)
    assert "is busy, it is being blocked by" in refusal
    assert "Traceback" not in refusal
    assert process.wait() == 0
    assert outputs(finished.folder) == finished.expected


@pytest.mark.slow
def test_params_that_change_in_mid_run_are_never_recorded_as_what_made_the_outputs(
    finished: DvcRun, tmp_path: Path
) -> None:
    folder = finished.folder
    finished.forget("train")
    params = folder / "params.yaml"
    text = params.read_text()
    log = tmp_path / "log"
    process = finished.start_repro(log)
    wait_for(process, log, "Running stage 'train'")
    while not (folder / "metrics/training/metrics.json").exists():
        time.sleep(0.001)
    before, _, after = text.rpartition("dropout: 0.5")  # that of train, the last one
    params.write_text(f"{before}dropout: 0.4{after}")
    assert process.wait() == 255
    lines = [line for line in log.read_text().splitlines() if line.startswith("error:")]
    assert lines == ["error: params.yaml: train.dropout was changed while the stage ran: run dvc repro again"]
    assert executed(finished.dvc("repro")) == ["train", "evaluate", "report"]
    assert outputs(folder)["data/predictions.csv"] != finished.expected["data/predictions.csv"]
    params.write_text(text)
    finished.dvc("repro")
    assert outputs(folder) == finished.expected


@pytest.mark.slow
def test_a_clock_that_jumps_back_changes_nothing(
    finished: DvcRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are dated a day ahead, and in mid-run each process sees its clock set back by a day."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("this test needs a C compiler, to set the clock back for its processes alone")
    library = tmp_path / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, PROJECT / "tests/support/clock.c", "-ldl"], check=True)
    folder = finished.folder
    tomorrow = time.time() + 86_400
    for path in folder.rglob("*"):
        if ".dvc" not in path.parts and ".git" not in path.parts:
            os.utime(path, (tomorrow, tomorrow))
    kept = chunks(folder)
    for stage in PIPELINE:
        finished.forget(stage)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    assert sorted(executed(finished.dvc("repro"))) == sorted(PIPELINE.keys() - {"listing"})
    assert outputs(folder) == finished.expected
    assert chunks(folder) == kept
