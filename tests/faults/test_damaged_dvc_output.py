"""Damage to data/features and to DVC's cache of it, with real DVC: repaired, or refused before anything is made of it.

DVC trusts a file in its cache as long as it is read-only, and a checkout links data/features to it. A byte that changes
in there, or through the link, is therefore restored as if it were right: what reads the features has to notice.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.workspace import executed
from tests.support.dvc_run import DvcRun, made_dvc_run
from tests.support.stage_project import contents

pytestmark = pytest.mark.slow


class Run(DvcRun):
    """A copy of a finished run to do harm to."""

    def __init__(self, original: Path, folder: Path) -> None:
        super().__init__(original, folder)
        self.features = self.folder / "data/features"
        self.good = contents(self.features)

    def link(self) -> None:
        """Have data/features checked out of the cache, which links it, as `dvc exp apply` and a return do."""
        shutil.rmtree(self.features)
        self.dvc("checkout", "data/features")
        assert (self.features / "view_000.npy").stat().st_nlink == 2

    def cached(self, name: str) -> Path:
        """Return the file of the cache that holds a file of data/features."""
        (path,) = (p for p in self.cache.rglob("*") if p.is_file() and p.read_bytes() == self.good[name])
        return path

    def is_whole(self) -> bool:
        return contents(self.features) == self.good


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Run:
    return Run(made_dvc_run(tmp_path_factory), tmp_path / "run")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[np.random.default_rng(0).integers(len(content))] ^= 0x40
    overwrite(path, bytes(content))


def truncate(path: Path) -> None:
    overwrite(path, path.read_bytes()[: path.stat().st_size // 2])


def overwrite(path: Path, content: bytes) -> None:
    """Change a file as a failing disk does: in place, and whatever its mode, which stays."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


@pytest.mark.parametrize(
    ("name", "damage"),
    [("view_000.npy", flip), ("view_000.npy", truncate), ("index.csv", flip), ("features.json", truncate)],
)
def test_damage_to_features_that_are_not_linked_is_repaired_from_the_cache(
    run: Run, name: str, damage: Callable[[Path], None]
) -> None:
    damage(run.features / name)
    assert executed(run.dvc("repro")) == []
    assert run.is_whole()


def test_a_description_of_another_backbone_is_replaced(run: Run) -> None:
    path = run.features / "features.json"
    text = path.read_text()
    run.dvc("exp", "run", "-S", "backbone.seed=2", "features")
    foreign = path.read_text()
    assert foreign != text
    run.dvc("exp", "run", "-S", "backbone.seed=1", "features")
    path.unlink()
    path.write_text(foreign)
    assert executed(run.dvc("repro")) == []
    assert run.is_whole()


def test_a_linked_file_that_was_made_writable_is_repaired_from_the_chunks(run: Run) -> None:
    run.link()
    path = run.features / "view_000.npy"
    path.chmod(0o644)
    flip(path)
    assert executed(run.dvc("repro")) == ["features"]
    assert run.is_whole()


def through_a_link(run: Run, damage: Callable[[Path], None]) -> None:
    run.link()
    damage(run.features / "view_000.npy")


def in_the_cache(run: Run, damage: Callable[[Path], None]) -> None:
    damage(run.cached("view_000.npy"))
    shutil.rmtree(run.features)  # until then, the file in the project is good


@pytest.mark.parametrize(("harm", "damage"), [(through_a_link, flip), (in_the_cache, truncate)])
def test_damage_that_dvc_restores_is_refused_in_one_line_and_repaired_as_that_line_says(
    run: Run, harm: Callable[[Run, Callable[[Path], None]], None], damage: Callable[[Path], None]
) -> None:
    head = (run.folder / "models/head.npz").read_bytes()
    harm(run, damage)
    assert executed(run.dvc("repro")) == []
    assert not run.is_whole()  # all stages have been run on good features, and none is run now
    assert (run.folder / "models/head.npz").read_bytes() == head

    output = run.dvc("exp", "run", "-S", "train.dropout=0.4", status=255)
    assert executed(output) == ["train"]
    assert "Traceback" not in output
    (line,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert line.startswith("error: data/features is damaged")
    command = line.rpartition("dvc ")[2]
    assert command == "repro --force --single-item features"

    run.dvc(*command.split())
    assert run.is_whole()
    assert executed(run.dvc("repro")) == ["train", "evaluate", "report"]
    assert run.is_whole()
