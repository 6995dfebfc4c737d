"""Damage to data/features and to DVC's cache of it, with real DVC: mended, or refused before anything is made of it.

DVC trusts a file in its cache as long as it is read-only, and a checkout links data/features to it. A byte that changes
in there, or through the link, is therefore restored as if it were right; what reads the features has to notice.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.workspace import Workspace, executed
from tests.support.stage_project import contents


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, in `project`, and its DVC cache, in `cache`."""
    folder = tmp_path_factory.mktemp("finished")
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": "sample", "sample_images": 100},
        "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 32},
        "augmentation": {"views": 1},
        "train": {"epochs": 2},
    }
    Workspace(folder / "project", folder / "cache", changes).dvc("repro")
    return folder


class Run(Workspace):
    """A copy of a finished run to do harm to."""

    def __init__(self, finished: Path, folder: Path) -> None:
        shutil.copytree(finished, folder, symlinks=True)
        self.folder = folder / "project"
        self.cache = folder / "cache"
        self.features = self.folder / "data/features"
        self.dvc("config", "--local", "cache.dir", str(self.cache))
        self.expected = contents(self.features)

    def link(self) -> None:
        """Have data/features checked out of the cache, which links it, as `dvc exp apply` and a return do."""
        shutil.rmtree(self.features)
        self.dvc("checkout", "data/features")
        assert (self.features / "view_000.npy").stat().st_nlink == 2

    def cached(self, name: str) -> Path:
        """Return the file of the cache that holds a file of data/features."""
        (path,) = (p for p in self.cache.rglob("*") if p.is_file() and p.read_bytes() == self.expected[name])
        return path

    def is_whole(self) -> bool:
        return contents(self.features) == self.expected


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    return Run(finished, tmp_path / "run")


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
def test_damage_to_features_that_are_no_link_is_mended_from_the_cache(
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


def test_a_linked_file_that_was_made_writable_is_mended_from_the_store(run: Run) -> None:
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
def test_damage_that_dvc_restores_is_refused_in_one_line_and_mended_as_that_line_says(
    run: Run, harm: Callable[[Run, Callable[[Path], None]], None], damage: Callable[[Path], None]
) -> None:
    head = (run.folder / "models/head.keras").read_bytes()
    harm(run, damage)
    assert executed(run.dvc("repro")) == []
    assert not run.is_whole()  # all stages have been run on good features, and none is run now
    assert (run.folder / "models/head.keras").read_bytes() == head

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
