"""The times and the memory that the benchmarks report of processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.first_result import demo_parts
from benchmarks.processes import measure_command, stage_seconds, timed_lines

OUTPUT = """\
environment is ready
Running dvc repro in .demo: drawn images
Running stage 'manifest':
> python -m stages.manifest
manifest: lesions with several labels: a
manifest: 200 images
Updating lock file 'dvc.lock'
Stage 'split' didn't change, skipping
Running stage 'train':
a warning
train: 3 epochs
Use `dvc push` to send your updates to remote storage."""
# a line a second, the end after one more
LINES = [(float(second), line) for second, line in enumerate([*OUTPUT.splitlines(), ""])]


def test_a_stage_lasts_from_where_dvc_begins_it_to_its_own_last_line() -> None:
    assert stage_seconds(LINES) == {"manifest": 3, "train": 2}


def test_the_parts_of_the_demo_add_up_to_the_whole() -> None:
    parts = demo_parts(LINES)
    assert parts == {"environment": 1, "DVC": 6, "manifest": 3, "train": 2}
    assert sum(parts.values()) == LINES[-1][0]


def test_lines_are_timed_when_they_come(tmp_path: Path) -> None:
    code = "import time; print('first', flush=True); time.sleep(0.5); print('second')"
    (first, one), (second, two), (end, last) = timed_lines([sys.executable, "-c", code], tmp_path)
    assert (one, two, last) == ("first", "second", "")
    assert first + 0.4 < second <= end


def test_a_command_that_fails_is_not_timed(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        timed_lines([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        measure_command([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_the_peak_memory_is_that_of_the_command_alone(tmp_path: Path) -> None:
    ours = bytearray(300_000_000)
    few, many = (
        measure_command([sys.executable, "-c", f"len(bytearray({size}))"], tmp_path).megabytes
        for size in (0, 200_000_000)
    )
    assert few < 100 < len(ours) / 1e6
    assert many - few == pytest.approx(200, abs=10)
