"""The Kaggle source, run as a user runs it: the real client in a process of its own, against a real HTTP server."""

import contextlib
import json
import os
import shutil
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.kaggle_archive import FOLDERS
from dermoscopy.data.sources import archive as source
from dermoscopy.data.sources import kaggle
from dermoscopy.runtime.errors import SourceError
from tests.support.machine import (
    CHUNK_BYTES,
    CLASSES,
    DONE,
    IMAGE_IDS,
    SMALL,
    Machine,
    build_archive,
)


@pytest.mark.slow
def test_each_image_comes_once_with_the_labels_and_nothing_else(
    stocked: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.images = len(IMAGE_IDS)
    monkeypatch.setattr(source, "IMAGES", len(IMAGE_IDS))
    build_archive(stocked.archive, len(IMAGE_IDS), padding=0)
    stocked.fetch_here()
    stocked.assert_complete()
    labels = pd.read_csv(stocked.destination / "labels.csv")
    assert (len(labels), sorted(labels["dx"].unique())) == (len(IMAGE_IDS), CLASSES)
    with zipfile.ZipFile(stocked.archive) as bundle:
        for folder, name in [(FOLDERS[0], IMAGE_IDS[0]), (FOLDERS[1], IMAGE_IDS[-1])]:
            assert (stocked.destination / "images" / f"{name}.jpg").read_bytes() == bundle.read(f"{folder}/{name}.jpg")


@pytest.mark.parametrize(
    "way",
    [
        "KAGGLE_API_TOKEN",
        *(pytest.param(way, marks=pytest.mark.slow) for way in ("access_token", "kaggle.json", "kaggle auth login")),
    ],
)
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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize("token", ["KGAT_two\nlines", "\u201cKGAT_quoted\u201d"])
def test_a_token_that_cannot_be_sent_is_named_not_shown(machine: Machine, token: str) -> None:
    machine.environment["KAGGLE_API_TOKEN"] = token
    line = machine.refusal()
    assert "does not accept the token in KAGGLE_API_TOKEN" in line
    assert "KGAT" not in line


def test_an_archive_that_is_there_already_needs_no_network_and_no_credentials(machine: Machine, archive: Path) -> None:
    machine.work.mkdir()
    shutil.copy(archive, machine.archive)
    machine.sign_out()
    machine.assert_fetched()
    assert machine.server.requests == []


def test_too_little_room_is_refused_before_any_request(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    # A full disk cannot be had without rights to mount one.
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 8_400_000_000))
    with pytest.raises(SourceError, match=r"needs 8\.5 GB .* and 8\.4 GB are free") as refusal:
        machine.fetch_here()
    assert str(machine.work) in str(refusal.value)
    assert machine.server.requests == []


def test_what_is_already_there_needs_no_room(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.work.mkdir()
    with machine.archive.open("wb") as partial:
        partial.truncate(kaggle.ARCHIVE_BYTES)  # sparse
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 2_800_000_000))
    with pytest.raises(SourceError, match=r"needs 2\.9 GB"):
        machine.fetch_here()


def test_a_folder_that_cannot_be_written_is_named(machine: Machine) -> None:
    machine.work.write_text("a file in the way")
    with pytest.raises(SourceError, match=f"cannot read or write {machine.work}"):
        machine.fetch_here()


def test_missing_images_are_refused_and_named(stocked: Machine) -> None:
    build_archive(stocked.archive, leave_out=3)
    found = f"it has {SMALL - 3} images and {SMALL} labels of 7 classes, 3 labels without image"
    with pytest.raises(SourceError, match=f"{found}.*{', '.join(IMAGE_IDS[:3])}"):
        stocked.fetch_here()
    assert list(stocked.destination.iterdir()) == []


def test_a_missing_class_is_refused(stocked: Machine) -> None:
    build_archive(stocked.archive, classes=CLASSES[1:])
    with pytest.raises(SourceError, match=f"{SMALL} labels of 6 classes"):
        stocked.fetch_here()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("member", "content", "reason"),
    [
        ("more/ISIC_9999999.jpg", b"jpeg", "1 images without label .such as: ISIC_9999999"),
        (source.METADATA, b"other", f"two different files named {source.METADATA}"),
    ],
    ids=["unlabelled", "two label tables"],
)
def test_unexpected_content_is_refused_and_the_archive_kept(
    stocked: Machine, archive: Path, member: str, content: bytes, reason: str
) -> None:
    shutil.copy(archive, stocked.archive)
    with zipfile.ZipFile(stocked.archive, "a", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(member, content)
    with pytest.raises(SourceError, match=reason):
        stocked.fetch_here()
    assert stocked.archive.exists()


@pytest.mark.slow
def test_a_terminal_shows_progress_and_no_secret_though_the_client_is_verbose(machine: Machine) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    machine.environment |= {"VERBOSE": "1", "KAGGLE_API_TOKEN": machine.server.token}
    machine.server.cuts = [2 * CHUNK_BYTES]  # so that the client reports a fault
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 120))
    process = machine.start(stderr)
    os.close(stderr)
    shown = ""
    with contextlib.suppress(OSError):  # how a terminal ends on Linux
        while block := os.read(terminal, 65_536):
            shown += block.decode()
    out, _ = process.communicate()
    assert (process.returncode, out) == (0, DONE)
    assert "100%" in shown
    assert "extracting" in shown
    assert "trying again" in shown
    assert not any(secret in shown for secret in machine.server.secrets)
