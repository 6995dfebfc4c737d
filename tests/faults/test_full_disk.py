"""A disk that fills up while features are computed: one line, nothing half-written, and nothing computed twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.project import contents, make_project
from tests.imports import ROOT
from tools.demo import environment

IMAGES = 600  # three chunks a view: 256, 256 and 88 images of 1,280 numbers
MEGABYTES_OF_STORE = 2 * IMAGES * (1_280 * 4 + 32) / 1e6  # and as much again for data/features, with two views

# In a mount namespace of its own, which goes with the process: data/ becomes a small file system, is filled up by the
# stage, and made larger.
SCRIPT = """
set -e
mount -t tmpfs -o size="$1" none data
cp manifest.csv data/
set +e
"$PYTHON" -m stages.features > first.out 2> first.err
echo $? > first.status
cp -a data first
mount -o remount,size=100m data
"$PYTHON" -m stages.features > second.out 2> second.err
echo $? > second.status
cp -a data second
"""
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.fixture(scope="module", autouse=True)
def _mounting() -> None:
    try:
        subprocess.run([*NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this test needs a small file system of its own, and none can be mounted here: {error}")


@pytest.fixture
def project(backbones: dict[str, Path], tmp_path: Path) -> Path:
    make_project(tmp_path, backbones["first"], IMAGES)
    table = (tmp_path / "data/manifest.csv").read_text().replace("data/raw", "raw")
    (tmp_path / "manifest.csv").write_text(table)
    (tmp_path / "data/raw").rename(tmp_path / "raw")
    return tmp_path


def chunks(folder: Path) -> dict[Path, int]:
    """Return chunk files, below `folder`, and when each was written."""
    store = folder / ".features"
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("megabytes", "finished"),
    [(0.1, 0), (2, 1), (4.5, 3), (1.02 * MEGABYTES_OF_STORE, 6), (1.8 * MEGABYTES_OF_STORE, 6)],
    ids=["first chunk", "second view of the first chunk", "second chunk", "first feature file", "second feature file"],
)
def test_a_full_disk_is_one_line_and_finished_chunks_are_kept(project: Path, megabytes: float, finished: int) -> None:
    environ = environment() | {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    subprocess.run(
        [*NAMESPACE, "sh", "-c", SCRIPT, "sh", f"{int(megabytes * 1000)}k"], cwd=project, env=environ, check=True
    )

    assert (project / "first.status").read_text() == "1\n"
    errors = (project / "first.err").read_text()
    assert "Traceback" not in errors
    (line,) = (line for line in errors.splitlines() if line.startswith("error: "))
    assert "No space left on device" in line
    assert {path.name for path in (project / "first").iterdir()} == {"manifest.csv", ".features"}
    kept = chunks(project / "first")
    assert len(kept) == finished
    assert not [path for path in kept if path.suffix != ".chunk" or path.name.startswith(".")]

    assert (project / "second.status").read_text() == "0\n", (project / "second.err").read_text()
    assert {path: chunks(project / "second")[path] for path in kept} == kept
    assert len(chunks(project / "second")) == 6
    expected = project / "expected"
    expected.mkdir()
    for name in ("params.yaml", "models", "raw"):
        (expected / name).symlink_to(project / name)
    (expected / "data").mkdir()
    (expected / "data/manifest.csv").write_text((project / "manifest.csv").read_text())
    subprocess.run(
        [sys.executable, "-m", "stages.features"], cwd=expected, env=environ, capture_output=True, check=True
    )
    assert contents(project / "second/features") == contents(expected / "data/features")
