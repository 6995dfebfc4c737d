"""A user's machine, on which the download stage is run in a process of its own, and the archives it fetches."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from benchmarks.kaggle_archive import FOLDERS, write_archive
from benchmarks.kaggle_server import KaggleServer, meet
from dermoscopy.data.sources import archive as source
from dermoscopy.data.sources import kaggle
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import write_params

CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
SMALL = 42  # images in the archive of all tests that do not need the true number
IMAGE_IDS = [f"ISIC_{24306 + number:07d}" for number in range(source.IMAGES)]
CHUNK_BYTES = 2**20  # what the client reads and writes at once; a cut loses at most one
DONE = "download: kaggle data are in data/raw\n"
WHOLE = "download: data/raw is whole already\n"
# What is set in the process of the stage: see `meet`.
SETTINGS = [
    *("endpoint", "images", "archive_bytes", "extracted_bytes"),
    *("retries", "first_pause", "longest_pause", "silence"),
]


def build_archive(
    path: Path,
    images: int = SMALL,
    padding: int = 100_000,
    classes: list[str] = CLASSES,
    folders: list[str] = FOLDERS,
    leave_out: int = 0,
) -> Path:
    """Write an archive of drawn images; the last bytes of each file are its image_id."""
    ok, pixels = cv2.imencode(".jpg", np.full((4, 4, 3), (120, 150, 220), np.uint8))
    assert ok
    jpeg = pixels.tobytes() + np.random.default_rng(1).bytes(padding)  # no decoder reads what follows the end
    names = IMAGE_IDS[:images]
    rows = [f"HAM_{i:07d},{name},{classes[i % len(classes)]},histo,45.0,male,back" for i, name in enumerate(names)]
    labels = "\n".join(["lesion_id,image_id,dx,dx_type,age,sex,localization", *rows]).encode()
    files = {name: jpeg + name.encode() for name in names[leave_out:]}
    return write_archive(path, labels, files, images // 2, folders)


class Finished(NamedTuple):
    code: int
    out: str
    err: str


class Machine:
    """A home, an environment with credentials, and a project folder.

    Attributes:
        images, archive_bytes, extracted_bytes: what the stage takes for the numbers of the dataset.
        retries, first_pause, longest_pause, silence: how patient it is; the pauses are in seconds, and short.
        params: of the section `data`, where they differ from the repository's.
    """

    def __init__(self, folder: Path, server: KaggleServer) -> None:
        self.server = server
        self.endpoint = server.endpoint
        self.home = folder / "home"
        self.project = folder / "project"
        self.data = self.project / "data"
        self.destination = self.data / "raw"
        self.work = self.data / ".download"
        self.archive = self.work / kaggle.ARCHIVE
        (self.home / ".kaggle").mkdir(parents=True)
        self.data.mkdir(parents=True)
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "KAGGLE_USERNAME": server.username,
            "KAGGLE_KEY": server.key,
        }
        self.images = SMALL
        self.archive_bytes = self.extracted_bytes = 0
        self.retries, self.first_pause, self.longest_pause, self.silence = 3, 0.01, 0.1, 60.0
        self.params: dict[str, Any] = {"source": "kaggle"}

    def sign_out(self) -> None:
        del self.environment["KAGGLE_USERNAME"], self.environment["KAGGLE_KEY"]

    def settings(self, project: Path) -> dict[str, str]:
        """Return the environment in which the download stage of a project meets the server, signed in."""
        return self.environment | meet(project, **{name: getattr(self, name) for name in SETTINGS})

    def start(self, stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        write_params(self.project, {"data": self.params})
        environment = self.settings(PROJECT)
        environment["PYTHONPATH"] += f"{os.pathsep}{PROJECT}"
        return subprocess.Popen(
            [sys.executable, "-m", "stages.download"],
            cwd=self.project,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def finish(self, process: "subprocess.Popen[str]") -> Finished:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()  # does nothing if it has ended
        assert not any(secret in out + err for secret in self.server.secrets)
        return Finished(process.returncode, out, err)

    def fetch(self) -> Finished:
        return self.finish(self.start())

    def fetch_here(self) -> None:
        """Fetch in this process, which needs an archive that is there already."""
        params = load_params(write_params(self.project, {"data": self.params}))
        kaggle.fetch(params.data, self.destination, self.work)

    def assert_fetched(self) -> None:
        """Fetch without any trouble; the archive is then not needed any more."""
        assert self.fetch() == (0, DONE, "")
        self.assert_complete()
        assert not self.work.exists()

    def assert_fetched_after(self, *problems: str) -> None:
        """Fetch, and look for one line for each retry that says what has happened."""
        code, out, err = self.fetch()
        assert (code, out) == (0, DONE), err
        self.assert_complete()
        assert not self.work.exists()
        assert_retries(err.splitlines(), *problems)

    def assert_complete(self) -> None:
        """Look for every image and the labels in data/raw, and for nothing else there."""
        files = {str(path.relative_to(self.destination)) for path in self.destination.rglob("*") if path.is_file()}
        assert files == {f"images/{name}.jpg" for name in IMAGE_IDS[: self.images]} | {"labels.csv"}
        assert all(path.read_bytes().endswith(path.stem.encode()) for path in self.destination.glob("images/*"))

    def refusal(self, *problems: str) -> str:
        """Fetch, and return the one line that says why it cannot be; before it comes one for each retry."""
        code, out, err = self.fetch()
        *retries, line = err.splitlines()
        assert (code, out) == (1, ""), err
        assert line.startswith("error: ")
        assert_retries(retries, *problems)
        assert {path.name for path in self.data.iterdir()} <= {".download"}  # no raw, whole or half
        return line


def assert_retries(lines: list[str], *problems: str) -> None:
    assert len(lines) == len(problems), lines
    for line, problem in zip(lines, problems, strict=True):
        assert line.startswith(f"download: {problem}; trying again in "), line


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_archive(tmp_path_factory.mktemp("kaggle") / "archive.zip")


@pytest.fixture
def server(archive: Path) -> Iterator[KaggleServer]:
    with KaggleServer(archive, kaggle.DATASET) as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, server: KaggleServer) -> Machine:
    return Machine(tmp_path, server)


@pytest.fixture
def stocked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose archive is there already, so that neither the client is needed nor a process to contain it."""
    for name in ("ARCHIVE_BYTES", "EXTRACTED_BYTES"):
        monkeypatch.setattr(kaggle, name, 0)
    monkeypatch.setattr(source, "IMAGES", SMALL)
    machine.work.mkdir()
    machine.destination.mkdir()
    return machine
