"""The Kaggle source, run as a user runs it: the real client in a process of its own, against a real HTTP server."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pytest

from stages.common.errors import SourceError
from stages.common.params import Data
from stages.sources import kaggle as source
from tests.sources.kaggle_server import KaggleServer

ROOT = Path(__file__).parents[2]
CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
SMALL = 210  # images in the archive of all tests that do not need the true number
IMAGE_IDS = [f"ISIC_{24306 + number:07d}" for number in range(source.IMAGES)]
FOLDERS = ["HAM10000_images_part_1", "HAM10000_images_part_2", "ham10000_images_part_1", "ham10000_images_part_2"]
PIXEL_TABLES = ["hmnist_28_28_L.csv", "hmnist_28_28_RGB.csv", "hmnist_8_8_L.csv", "hmnist_8_8_RGB.csv"]
UPLOADED = datetime(2018, 9, 20, tzinfo=UTC).timestamp()
CHUNK_BYTES = 2**20  # what the client reads and writes at once; a cut loses at most one

# The client looks up its server in this table; the archives of the tests are smaller than the real one.
DRIVER = """
import json, sys
from pathlib import Path
from kagglesdk import kaggle_env
from stages.common.errors import run
from stages.common.params import Data
from stages.sources import kaggle as source

settings = json.loads(sys.argv[1])
kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.LOCAL] = settings["endpoint"]
source.ARCHIVE_BYTES = source.EXTRACTED_BYTES = 0
source.IMAGES = settings["images"]
source.SILENCE_SECONDS = settings["silence_seconds"]
run(lambda: source.fetch(Data(**settings["data"]), Path(settings["destination"]), Path(settings["work"])))
"""

DATA = {
    "source": "kaggle",
    "keep_archive": False,
    "directory": None,
    "labels": None,
    "sample_images": 300,
    "seed": 1,
    "on_bad_image": "fail",
}


def build_archive(
    path: Path,
    images: int = SMALL,
    padding: int = 20_000,
    classes: list[str] = CLASSES,
    folders: list[str] = FOLDERS,
    leave_out: int = 0,
) -> Path:
    """Write an archive in the layout of the real one: two folders of halves, twice, the labels, four pixel tables."""
    ok, pixels = cv2.imencode(".jpg", np.full((4, 4, 3), (120, 150, 220), np.uint8))
    assert ok
    jpeg = pixels.tobytes() + np.random.default_rng(1).bytes(padding)  # no decoder reads what follows the end
    names = IMAGE_IDS[:images]
    rows = [f"HAM_{i:07d},{name},{classes[i % len(classes)]},histo,45.0,male,back" for i, name in enumerate(names)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(source.METADATA, "\n".join(["lesion_id,image_id,dx,dx_type,age,sex,localization", *rows]))
        for first, second in zip(folders[::2], folders[1::2], strict=True):
            for number, name in enumerate(names[leave_out:]):
                archive.writestr(f"{first if number < images // 2 else second}/{name}.jpg", jpeg + name.encode())
        for name in PIXEL_TABLES:
            archive.writestr(name, "pixel0000,label\n169,2\n")
    os.utime(path, (UPLOADED, UPLOADED))
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_archive(tmp_path_factory.mktemp("kaggle") / "archive.zip")


@pytest.fixture
def server(archive: Path) -> Iterator[KaggleServer]:
    with KaggleServer(archive, source.DATASET) as running:
        yield running


class Finished(NamedTuple):
    code: int
    out: str
    err: str


class Machine:
    """A user's machine: a home, an environment with credentials, and a project folder."""

    def __init__(self, folder: Path, server: KaggleServer) -> None:
        self.server = server
        self.endpoint = server.endpoint
        self.home = folder / "home"
        self.work = folder / "data" / "kaggle"
        self.destination = folder / "data" / "raw.new"
        self.archive = self.work / source.ARCHIVE
        (self.home / ".kaggle").mkdir(parents=True)
        self.environment = {
            "HOME": str(self.home),
            "PATH": os.environ["PATH"],
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_USERNAME": server.username,
            "KAGGLE_KEY": server.key,
        }
        self.images = SMALL
        self.silence_seconds = 60

    def sign_out(self) -> None:
        del self.environment["KAGGLE_USERNAME"], self.environment["KAGGLE_KEY"]

    def start(self, stderr: int = subprocess.PIPE) -> "subprocess.Popen[str]":
        shutil.rmtree(self.destination, ignore_errors=True)
        self.destination.mkdir(parents=True)
        settings = {
            "endpoint": self.endpoint,
            "data": DATA,
            "images": self.images,
            "destination": str(self.destination),
            "work": str(self.work),
            "silence_seconds": self.silence_seconds,
        }
        command = [sys.executable, "-c", DRIVER, json.dumps(settings)]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=stderr
        )

    def fetch(self) -> Finished:
        process = self.start()
        out, err = process.communicate(timeout=120)
        assert not any(secret in out + err for secret in self.server.secrets)
        return Finished(process.returncode, out, err)

    def assert_fetched(self) -> None:
        assert self.fetch() == (0, "", "")
        self.assert_complete()

    def assert_complete(self) -> None:
        files = {str(path.relative_to(self.destination)) for path in self.destination.rglob("*") if path.is_file()}
        assert files == {f"images/{name}.jpg" for name in IMAGE_IDS[: self.images]} | {"labels.csv"}

    def refusal(self) -> str:
        """Fetch, and return the one line that says why it cannot be."""
        code, out, err = self.fetch()
        assert (code, out, err.count("\n")) == (1, "", 1), err
        assert err.startswith("error: ")
        return err


@pytest.fixture
def machine(tmp_path: Path, server: KaggleServer) -> Machine:
    return Machine(tmp_path, server)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fetch_here(machine: Machine) -> None:
    source.fetch(Data.model_validate(DATA), machine.destination, machine.work)


def test_each_image_comes_once_with_the_labels_and_nothing_else(machine: Machine, tmp_path: Path) -> None:
    machine.server.archive = archive = build_archive(tmp_path / "archive.zip", source.IMAGES, padding=0)
    machine.images = source.IMAGES
    machine.assert_fetched()
    labels = pd.read_csv(machine.destination / "labels.csv")
    assert (len(labels), sorted(labels["dx"].unique())) == (source.IMAGES, CLASSES)
    with zipfile.ZipFile(archive) as bundle:
        for folder, name in [(FOLDERS[0], IMAGE_IDS[0]), (FOLDERS[1], IMAGE_IDS[-1])]:
            assert (machine.destination / "images" / f"{name}.jpg").read_bytes() == bundle.read(f"{folder}/{name}.jpg")


@pytest.mark.parametrize("way", ["KAGGLE_API_TOKEN", "access_token", "kaggle.json", "kaggle auth login"])
def test_any_credentials_of_the_client_will_do(machine: Machine, way: str) -> None:
    folder, server = machine.home / ".kaggle", machine.server
    machine.sign_out()  # of KAGGLE_USERNAME and KAGGLE_KEY, which all other tests use
    match way:
        case "KAGGLE_API_TOKEN":
            machine.environment["KAGGLE_API_TOKEN"] = server.token
        case "access_token":
            (folder / "access_token").write_text(server.token + "\n")
        case "kaggle.json":
            (folder / "kaggle.json").write_text(json.dumps({"username": server.username, "key": server.key}))
        case "kaggle auth login":
            expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            content = {"refresh_token": "r", "access_token": server.token, "access_token_expiration": expires}
            (folder / "credentials.json").write_text(json.dumps(content | {"username": server.username}))
    machine.assert_fetched()


def test_without_credentials_one_line_names_the_ways_to_sign_in_and_the_other_sources(machine: Machine) -> None:
    machine.sign_out()
    line = machine.refusal()
    for way in ("KAGGLE_API_TOKEN", "~/.kaggle/access_token", "~/.kaggle/kaggle.json", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        assert way in line
    assert "data.source=directory with data.directory" in line
    assert "data.source=sample" in line
    assert machine.server.requests == []


@pytest.mark.parametrize(("status", "has_key_too"), [(200, False), (200, True), (401, False)])
def test_a_token_that_kaggle_does_not_accept_is_named_not_shown(
    machine: Machine, status: int, has_key_too: bool
) -> None:
    if not has_key_too:
        machine.sign_out()
    machine.server.introspection_status = status
    machine.environment |= {"KAGGLE_API_TOKEN": "KGAT_expired"}
    line = machine.refusal()
    assert "does not accept the token in KAGGLE_API_TOKEN" in line
    assert "KGAT_expired" not in line


@pytest.mark.parametrize("token", ["KGAT_two\nlines", "\u201cKGAT_quoted\u201d"])
def test_a_token_that_cannot_be_sent_is_named_not_shown(machine: Machine, token: str) -> None:
    machine.environment["KAGGLE_API_TOKEN"] = token
    line = machine.refusal()
    assert "does not accept the token in KAGGLE_API_TOKEN" in line
    assert "KGAT" not in line


def test_a_wrong_key_ends_with_the_ways_to_sign_in(machine: Machine) -> None:
    machine.environment["KAGGLE_KEY"] = wrong = "wr0ng"
    line = machine.refusal()
    assert "401" in line
    assert "KAGGLE_API_TOKEN" in line
    assert wrong not in line


@pytest.mark.parametrize(("status", "advice"), [(403, "accept"), (404, "not there"), (429, "wait"), (503, "later")])
def test_a_refusal_ends_at_once_with_its_status_and_what_to_do(machine: Machine, status: int, advice: str) -> None:
    machine.server.status = status
    line = machine.refusal()
    assert f"status {status}: " in line
    assert advice in line
    assert len(machine.server.requests) == 1


def test_without_a_connection_one_line_says_so(machine: Machine) -> None:
    machine.endpoint = "http://localhost:1"  # where nobody listens
    assert "no connection to Kaggle (ConnectionError): check the network" in machine.refusal()


@pytest.mark.parametrize("fault", ["cut", "silent"])
def test_a_broken_transfer_is_resumed_in_the_same_run(machine: Machine, archive: Path, fault: str) -> None:
    size = archive.stat().st_size
    if fault == "cut":
        machine.server.cut_after = size // 2
    else:
        machine.server.stall_after = size // 2
        machine.silence_seconds = 1
    machine.assert_fetched()
    first, second = machine.server.transfers()
    written = size // 2 // CHUNK_BYTES * CHUNK_BYTES
    assert (first.status, first.range, second.status, second.range) == (200, None, 206, f"bytes={written}-")
    assert machine.server.bytes_sent < size + CHUNK_BYTES


def test_a_killed_download_is_resumed_by_the_next_run(machine: Machine, archive: Path) -> None:
    size = archive.stat().st_size
    machine.server.stall_after = size // 2
    process = machine.start()
    wait_until(lambda: machine.server.bytes_sent == size // 2 and machine.archive.stat().st_size >= CHUNK_BYTES)
    process.kill()
    process.communicate()
    written = machine.archive.stat().st_size
    sent = machine.server.bytes_sent
    machine.assert_fetched()
    # The client asks for everything, looks at the headers, and asks again for the rest.
    assert [transfer.range for transfer in machine.server.transfers()] == [None, None, f"bytes={written}-"]
    assert machine.server.bytes_sent - sent < size - written + CHUNK_BYTES


def test_an_error_page_in_the_place_of_the_rest_is_never_resumed_from(machine: Machine) -> None:
    machine.server.cut_after = 2 * CHUNK_BYTES
    process = machine.start()
    wait_until(lambda: machine.server.bytes_sent >= 2 * CHUNK_BYTES)
    machine.server.storage_status = 503
    _, line = process.communicate(timeout=120)
    assert "sent something else than the archive; it has been deleted: run again" in line
    assert not machine.archive.exists()
    machine.server.storage_status = None
    machine.assert_fetched()


def test_a_kept_archive_is_used_again_without_network_and_credentials(machine: Machine) -> None:
    machine.assert_fetched()
    assert list(machine.work.iterdir()) == [machine.archive]
    machine.server.requests.clear()
    machine.sign_out()
    machine.assert_fetched()
    assert machine.server.requests == []
    assert machine.archive.exists()


def test_too_little_room_is_refused_before_any_request(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    # A full disk cannot be had without rights to mount one.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 8_400_000_000))
    with pytest.raises(SourceError, match=r"needs 8\.5 GB .* and 8\.4 GB are free") as refusal:
        fetch_here(machine)
    assert str(machine.work) in str(refusal.value)
    assert machine.server.requests == []


def test_what_is_already_there_needs_no_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.work.mkdir(parents=True)
    with machine.archive.open("wb") as partial:
        partial.truncate(source.ARCHIVE_BYTES)  # sparse
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 2_800_000_000))
    with pytest.raises(SourceError, match=r"needs 2\.9 GB"):
        fetch_here(machine)


def test_a_folder_that_cannot_be_written_is_named(machine: Machine) -> None:
    machine.work.parent.write_text("a file in the way")
    with pytest.raises(SourceError, match=f"cannot write {machine.work}"):
        fetch_here(machine)


@pytest.mark.parametrize("damage", ["a web page", "a flipped bit"])
def test_a_damaged_archive_is_deleted_and_fetched_anew_by_the_next_run(
    machine: Machine, archive: Path, tmp_path: Path, damage: str
) -> None:
    content = bytearray(b"<html>Welcome</html>" if damage == "a web page" else archive.read_bytes())
    content[len(content) // 4] ^= 1  # a quarter of the way there are only images
    machine.server.archive = tmp_path / "damaged.zip"
    machine.server.archive.write_bytes(content)
    line = machine.refusal()
    assert f"{machine.archive} is damaged" in line
    assert "has been deleted: run again" in line
    assert not machine.archive.exists()
    machine.server.archive = archive
    machine.assert_fetched()


@pytest.fixture
def stocked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose archive is there already, so that neither the client is needed nor a process to contain it."""
    for name in ("ARCHIVE_BYTES", "EXTRACTED_BYTES"):
        monkeypatch.setattr(source, name, 0)
    monkeypatch.setattr(source, "IMAGES", SMALL)
    machine.work.mkdir(parents=True)
    machine.destination.mkdir()
    return machine


def test_missing_images_are_refused_and_named(stocked: Machine) -> None:
    build_archive(stocked.archive, leave_out=3)
    found = f"found {SMALL - 3} images and {SMALL} labels of 7 classes, 3 labels without image"
    with pytest.raises(SourceError, match=f"{found}.*{', '.join(IMAGE_IDS[:3])}"):
        fetch_here(stocked)
    assert list(stocked.destination.iterdir()) == []


def test_a_missing_class_is_refused(stocked: Machine) -> None:
    build_archive(stocked.archive, classes=CLASSES[1:])
    with pytest.raises(SourceError, match=f"{SMALL} labels of 6 classes"):
        fetch_here(stocked)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("more/ISIC_9999999.jpg", b"jpeg", "1 images without label .such as: ISIC_9999999"),
        (f"more/{IMAGE_IDS[7]}.jpg", b"other", f"two different files named {IMAGE_IDS[7]}.jpg"),
        (source.METADATA, b"other", f"two different files named {source.METADATA}"),
        ("more/ISIC_9999999.jpg", bytes(60_000_000), "ISIC_9999999.jpg has 60 MB"),
    ],
    ids=["unlabelled", "two images of one name", "two label tables", "giant"],
)
def test_unexpected_content_is_refused_and_the_archive_kept(
    stocked: Machine, archive: Path, member: str, content: bytes, reason: str
) -> None:
    shutil.copy(archive, stocked.archive)
    with zipfile.ZipFile(stocked.archive, "a", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(member, content)
    with pytest.raises(SourceError, match=reason):
        fetch_here(stocked)
    assert stocked.archive.exists()


def test_no_path_in_the_archive_leads_out_of_the_destination(stocked: Machine, tmp_path: Path) -> None:
    build_archive(stocked.archive, folders=["../../outside", f"{tmp_path}/outside", *FOLDERS[2:]])
    with zipfile.ZipFile(stocked.archive, "a") as bundle:
        bundle.writestr("../../evil.jpg", b"evil")
        bundle.writestr(f"{tmp_path}/evil.jpg", b"evil")
    fetch_here(stocked)
    stocked.assert_complete()
    assert set(tmp_path.iterdir()) == {stocked.home, stocked.work.parent}
    assert set(stocked.work.parent.iterdir()) == {stocked.work, stocked.destination}


def test_a_terminal_shows_progress_and_no_secret_though_the_client_is_verbose(machine: Machine) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    machine.environment |= {"VERBOSE": "1", "KAGGLE_API_TOKEN": machine.server.token}
    machine.server.cut_after = 2 * CHUNK_BYTES  # so that the client reports a fault
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 120))
    process = machine.start(stderr)
    os.close(stderr)
    shown = ""
    with contextlib.suppress(OSError):  # how a terminal ends on Linux
        while block := os.read(terminal, 65_536):
            shown += block.decode()
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, "")
    assert "100%" in shown
    assert "extracting" in shown
    assert not any(secret in shown for secret in machine.server.secrets)
