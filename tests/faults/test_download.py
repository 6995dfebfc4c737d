"""The download under faults: it ends in a whole data/raw, or in one clear line and no data/raw.

The stage runs with the real client in a process of its own, against a real HTTP server that fails as the test asks.
"""

import copy
import shutil
import stat
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Literal

import pytest

from benchmarks.kaggle_archive import FOLDERS
from benchmarks.kaggle_server import KaggleServer
from benchmarks.workspace import Workspace
from dermoscopy.data.sources import archive as source
from dermoscopy.data.sources import kaggle
from dermoscopy.runtime.errors import SourceError
from tests.support.machine import (
    CHUNK_BYTES,
    DONE,
    IMAGE_IDS,
    SMALL,
    Machine,
    assert_retries,
    build_archive,
    wait_until,
)
from tests.support.small_disk import remount, small_disk

CUT = "the connection to Kaggle failed (cut)"
SILENT = "the connection to Kaggle failed (silent for 1 s)"


def chunks(size: int) -> int:
    """Return how many bytes the client has on disk when a transfer breaks after this many."""
    return size // CHUNK_BYTES * CHUNK_BYTES


def waits(err: str) -> list[str]:
    """Return the pauses that a run has announced, as it has written them."""
    return [line.split("trying again in ")[1] for line in err.splitlines()]


# Answers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "advice"), [(403, "accept what is asked"), (404, "Kaggle no longer has this dataset")]
)
@pytest.mark.parametrize("host", ["API", "storage"])
def test_a_permanent_answer_ends_at_once_with_what_to_do(machine: Machine, host: str, status: int, advice: str) -> None:
    setattr(machine.server, "status" if host == "API" else "storage_status", status)
    line = machine.refusal()
    assert f"Kaggle answered with status {status}: " in line
    assert advice in line
    assert len(machine.server.requests) == (1 if host == "API" else 2)


def test_a_wrong_key_ends_at_once_with_the_ways_to_sign_in(machine: Machine) -> None:
    machine.environment["KAGGLE_KEY"] = wrong = "wr0ng"
    line = machine.refusal()
    assert "does not accept the credentials (status 401): make a token" in line
    assert "KAGGLE_API_TOKEN" in line
    assert wrong not in line
    assert len(machine.server.requests) == 1


@pytest.mark.slow
def test_a_key_that_cannot_be_sent_is_not_shown(machine: Machine) -> None:
    machine.environment["KAGGLE_KEY"] = "\u201cqu0ted\u201d"
    line = machine.refusal()
    assert "credentials hold characters that no key has: make a token" in line
    assert "qu0ted" not in line


def test_transient_answers_are_tried_again_after_growing_pauses_up_to_the_limit(machine: Machine) -> None:
    machine.retries = 5
    machine.server.coming["api"] = [(status, {}) for status in (429, 500, 502, 503)]
    machine.server.coming["storage"] = [(504, {})]
    code, out, err = machine.fetch()
    assert (code, out) == (0, DONE), err
    machine.assert_complete()
    assert err.splitlines() == [
        "download: Kaggle answered 429; trying again in 0.01 s (1 of 5)",
        "download: Kaggle answered 500; trying again in 0.02 s (2 of 5)",
        "download: Kaggle answered 502; trying again in 0.04 s (3 of 5)",
        "download: Kaggle answered 503; trying again in 0.08 s (4 of 5)",
        "download: Kaggle answered 504; trying again in 0.1 s (5 of 5)",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("status", "advice"), [(429, "wait some minutes"), (503, "run again later")])
def test_a_transient_answer_that_stays_ends_after_the_retries_and_no_other_attempts(
    machine: Machine, status: int, advice: str
) -> None:
    machine.retries = 2
    machine.server.storage_status = status
    line = machine.refusal(*[f"Kaggle answered {status}"] * 2)
    assert f"Kaggle answered with status {status}: " in line
    assert advice in line
    assert line.endswith("(attempts: 3)")
    assert len(machine.server.transfers()) == 3


@pytest.mark.slow
def test_without_retries_the_first_fault_ends_the_stage(machine: Machine) -> None:
    machine.retries = 0
    machine.server.status = 503
    assert "Kaggle answered with status 503: " in machine.refusal()
    assert len(machine.server.requests) == 1


@pytest.mark.slow
def test_the_wait_that_kaggle_asks_for_is_kept_up_to_the_limit(machine: Machine) -> None:
    machine.retries, machine.longest_pause = 7, 1.2
    asked = ["1", formatdate(4e9, usegmt=True), "3600", formatdate(1e9, usegmt=True), "soon", "9" * 5000, "-1"]
    statuses = [429, 503, 429, 503, 429, 503, 429]
    machine.server.coming["api"] = [
        (status, {"Retry-After": wait}) for status, wait in zip(statuses, asked, strict=True)
    ]
    code, out, err = machine.fetch()
    assert (code, out) == (0, DONE), err
    # What is past or cannot be read leaves our own pauses: 0.01 s, doubled each time.
    pauses = ["1", "1.2", "1.2", "0.08", "0.16", "0.32", "0.64"]
    assert waits(err) == [f"{pause} s ({number} of 7)" for number, pause in enumerate(pauses, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("body", [b"5", b"no JSON"])
def test_an_answer_that_makes_no_sense_ends_in_one_line_and_loses_no_byte(
    machine: Machine, archive: Path, body: bytes
) -> None:
    half = archive.stat().st_size // 2
    machine.retries = 0
    machine.server.cuts = [half]
    machine.refusal()
    machine.server.body = body
    assert "sent an unexpected answer" in machine.refusal()
    machine.server.body = None
    machine.assert_fetched()
    assert machine.server.transfers()[-1].range == f"bytes={chunks(half)}-"


@pytest.mark.slow
@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://["])
def test_a_redirect_that_leads_nowhere_ends_in_one_line(machine: Machine, location: str) -> None:
    machine.server.location = location
    line = machine.refusal()
    assert location not in line
    assert not machine.archive.exists()


# Connections


@pytest.mark.parametrize(
    ("endpoint", "cause"),
    [
        ("http://localhost:1", "Connection refused"),
        pytest.param("http://kaggle.invalid", "its name does not resolve", marks=pytest.mark.slow),
    ],
)
def test_a_host_that_cannot_be_reached_is_tried_again_and_then_named(
    machine: Machine, endpoint: str, cause: str
) -> None:
    machine.retries = 2
    machine.endpoint = endpoint
    problem = f"the connection to Kaggle failed ({cause})"
    line = machine.refusal(problem, problem)
    assert f"{problem}: check the network, then run again" in line


@pytest.mark.slow
def test_a_host_that_comes_back_is_used(machine: Machine, archive: Path) -> None:
    with KaggleServer(archive, kaggle.DATASET) as gone:
        machine.endpoint = gone.endpoint
    machine.retries, machine.longest_pause = 100, 0.5
    process = machine.start()
    assert process.stderr
    first = process.stderr.readline()
    with KaggleServer(archive, kaggle.DATASET, port=gone.server_port):
        code, out, err = machine.finish(process)
    assert (code, out) == (0, DONE), err
    lines = [first, *err.splitlines()]
    assert_retries(lines, *["the connection to Kaggle failed (Connection refused)"] * len(lines))
    machine.assert_complete()


@pytest.mark.slow
def test_a_host_that_never_answers_is_given_up(machine: Machine) -> None:
    machine.silence, machine.retries = 1, 1
    machine.server.silent = True
    assert f"{SILENT}: check the network" in machine.refusal(SILENT)


@pytest.mark.slow
def test_a_transfer_that_breaks_again_and_again_is_resumed_each_time(machine: Machine, archive: Path) -> None:
    size = archive.stat().st_size
    # The client asks for everything, looks at the headers, and asks again for the rest: that transfer is not cut.
    machine.server.cuts = [size // 3, None, size // 3, None, size // 6]
    machine.assert_fetched_after(CUT, CUT, CUT)
    have = [0]
    for cut in (size // 3, size // 3, size // 6):
        have.append(have[-1] + chunks(cut))
    whole, *rest = machine.server.transfers()
    assert (whole.status, whole.range) == (200, None)
    assert [transfer.range for transfer in rest] == [x for start in have[1:] for x in (None, f"bytes={start}-")]
    assert {transfer.status for transfer in rest if transfer.range} == {206}


@pytest.mark.parametrize("fault", ["cut", pytest.param("silent", marks=pytest.mark.slow)])
def test_bytes_that_are_there_are_not_fetched_again(machine: Machine, archive: Path, fault: str) -> None:
    size = archive.stat().st_size
    if fault == "cut":
        machine.server.cuts = [size // 2]
    else:
        machine.server.stall_after = size // 2
        machine.silence = 1
    machine.assert_fetched_after(CUT if fault == "cut" else SILENT)
    assert [transfer.range for transfer in machine.server.transfers()] == [None, None, f"bytes={chunks(size // 2)}-"]
    assert machine.server.bytes_sent < size + 2 * CHUNK_BYTES  # one chunk lost, one perhaps behind the headers


@pytest.mark.slow
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
    assert [transfer.range for transfer in machine.server.transfers()] == [None, None, f"bytes={written}-"]
    assert machine.server.bytes_sent - sent < size - written + CHUNK_BYTES


@pytest.mark.slow
def test_a_download_that_was_given_up_is_resumed_by_the_next_run(machine: Machine, archive: Path) -> None:
    half = archive.stat().st_size // 2
    machine.retries = 0
    machine.server.cuts = [half]
    assert f"{CUT}: check the network" in machine.refusal()
    machine.assert_fetched()
    assert machine.server.transfers()[-1].range == f"bytes={chunks(half)}-"


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 503])
def test_an_error_page_in_the_place_of_the_rest_loses_no_byte(machine: Machine, archive: Path, status: int) -> None:
    half = archive.stat().st_size // 2
    machine.server.cuts = [half]
    machine.server.coming["range"] = [(status, {})]
    if status == 403:
        assert "Kaggle answered with status 403" in machine.refusal(CUT)
        machine.assert_fetched()
    else:
        machine.assert_fetched_after(CUT, f"Kaggle answered {status}")
    assert [transfer.range for transfer in machine.server.transfers() if transfer.range] == [
        f"bytes={chunks(half)}-"
    ] * 2


# What a server may do with ranges and lengths


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["ignore", "hide"])
def test_a_server_without_ranges_is_asked_for_everything_again(
    machine: Machine, archive: Path, ranges: Literal["ignore", "hide"]
) -> None:
    machine.server.ranges = ranges
    machine.server.cuts = [archive.stat().st_size // 2]
    machine.assert_fetched_after(CUT)
    assert {transfer.status for transfer in machine.server.transfers()} == {200}


@pytest.mark.slow
def test_everything_in_the_place_of_the_rest_is_never_taken_for_the_rest(machine: Machine, archive: Path) -> None:
    machine.server.ranges = "misread"
    machine.server.cuts = [archive.stat().st_size // 2]
    assert "what Kaggle sent is not the archive; it has been deleted: run again" in machine.refusal(CUT)
    assert not machine.archive.exists()
    machine.assert_fetched()


@pytest.mark.slow
def test_a_rest_that_the_server_does_not_have_is_fetched_from_the_start_by_the_next_run(
    machine: Machine, archive: Path
) -> None:
    machine.server.cuts = [archive.stat().st_size // 2]
    machine.server.coming["range"] = [(416, {})]
    assert "it has been deleted: run again" in machine.refusal(CUT)
    assert not machine.archive.exists()
    machine.assert_fetched()


@pytest.mark.slow
def test_an_archive_that_has_changed_meanwhile_is_fetched_from_the_start(
    machine: Machine, archive: Path, tmp_path: Path
) -> None:
    machine.retries = 0
    machine.server.archive = build_archive(tmp_path / "old.zip", padding=90_000)
    machine.server.cuts = [4 * CHUNK_BYTES]
    machine.refusal()
    assert machine.archive.exists()
    machine.server.archive = archive
    machine.assert_fetched()
    with zipfile.ZipFile(archive) as bundle:
        content = bundle.read(f"{FOLDERS[0]}/{IMAGE_IDS[0]}.jpg")
    assert (machine.destination / f"images/{IMAGE_IDS[0]}.jpg").read_bytes() == content


@pytest.mark.slow
def test_a_body_shorter_than_announced_is_never_taken_for_whole(machine: Machine) -> None:
    machine.server.announced = 5000
    assert f"{CUT}: check the network" in machine.refusal(CUT, CUT, CUT)
    machine.server.announced = 0
    machine.assert_fetched()


@pytest.mark.slow
def test_a_body_longer_than_announced_is_read_to_the_end_that_was_announced(machine: Machine) -> None:
    machine.server.extra = b"more" * 5000
    machine.assert_fetched()


@pytest.mark.slow
def test_a_cut_is_found_in_the_archive_itself_where_the_server_announces_no_length(
    machine: Machine, archive: Path
) -> None:
    machine.server.announced = None
    machine.assert_fetched()
    shutil.rmtree(machine.destination)
    machine.server.cuts = [archive.stat().st_size // 2]
    assert "is damaged (File is not a zip file) and has been deleted: run again" in machine.refusal()
    machine.assert_fetched()


# Damaged and hostile archives


@pytest.mark.parametrize("damage", [pytest.param("a web page", marks=pytest.mark.slow), "a flipped bit"])
def test_a_damaged_archive_is_deleted_and_fetched_anew_by_the_next_run(
    machine: Machine, archive: Path, tmp_path: Path, damage: str
) -> None:
    content = bytearray(b"<html>Welcome</html>" if damage == "a web page" else archive.read_bytes())
    content[len(content) // 4] ^= 1  # a quarter of the way there are only images
    machine.server.archive = tmp_path / "damaged.zip"
    machine.server.archive.write_bytes(content)
    line = machine.refusal()
    assert f"{kaggle.ARCHIVE} is damaged" in line
    assert "has been deleted: run again" in line
    assert not machine.archive.exists()
    machine.server.archive = archive
    machine.assert_fetched()


MEMORY_BYTES = 150_000_000  # more than any archive within the limits takes, less than what a bomb would


@pytest.fixture
def hostile(stocked: Machine, archive: Path) -> Machine:
    """A machine with a good archive, to which a test adds."""
    shutil.copy(archive, stocked.archive)
    return stocked


def fetch_safely(machine: Machine) -> None:
    """Fetch in this process, and look at what has been allocated, and written beside the destination."""
    folder = machine.home.parent
    before = {path for path in folder.rglob("*") if not path.is_relative_to(machine.destination)}
    tracemalloc.start()
    try:
        machine.fetch_here()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MEMORY_BYTES
        after = {path for path in folder.rglob("*") if not path.is_relative_to(machine.destination)}
        assert after <= before | {machine.project / "params.yaml"}
    machine.assert_complete()
    assert not any(path.is_symlink() for path in machine.destination.rglob("*"))


def add(machine: Machine, members: dict[str, bytes], mode: int = 0, deflate: bool = False) -> None:
    """Add members to the machine's archive."""
    with zipfile.ZipFile(machine.archive, "a", zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as bundle:
        for name, content in members.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            member.compress_type = bundle.compression
            bundle.writestr(member, content)


def assert_refused(machine: Machine, reason: str, deleted: bool = False) -> None:
    """Fetch, and look for a refusal before anything is written."""
    with pytest.raises(SourceError, match=reason):
        fetch_safely(machine)
    assert list(machine.destination.iterdir()) == []
    assert machine.archive.exists() != deleted


def test_no_path_in_the_archive_leads_out_of_the_destination(hostile: Machine, tmp_path: Path) -> None:
    build_archive(hostile.archive, folders=["../../outside", f"{tmp_path}/outside", "..\\..", "C:\\"])
    add(hostile, {"../../evil.jpg": b"evil", f"{tmp_path}/evil.jpg": b"evil", "..\\ISIC_0000001.jpg": b"evil"})
    fetch_safely(hostile)


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR], ids=stat.filemode
)
@pytest.mark.parametrize("name", ["ISIC_9999999.jpg", "innocent.txt"])
def test_links_and_devices_are_refused_in_the_place_of_an_image_and_otherwise_ignored(
    hostile: Machine, name: str, kind: int
) -> None:
    add(hostile, {f"more/{name}": b"/etc/passwd"}, kind | 0o777)
    if name == "innocent.txt":
        fetch_safely(hostile)
    else:
        assert_refused(hostile, f"{name} is not a file but a folder, a link or a device")


def test_a_folder_in_the_place_of_an_image_is_refused(hostile: Machine) -> None:
    add(hostile, {"ISIC_9999999.jpg/": b""})
    assert_refused(hostile, "ISIC_9999999.jpg is not a file")


def test_a_member_that_grows_beyond_all_proportion_is_refused(hostile: Machine) -> None:
    add(hostile, {"ISIC_9999999.jpg": bytes(9_000_000)}, deflate=True)
    assert_refused(hostile, "ISIC_9999999.jpg grows from [0-9]+ to 9000000 bytes")


def test_a_member_beyond_the_largest_size_is_refused(hostile: Machine) -> None:
    add(hostile, {"ISIC_9999999.jpg": bytes(11_000_000)})
    assert_refused(hostile, "ISIC_9999999.jpg has 11 MB")


def list_again(machine: Machine, member: str, names: list[str]) -> None:
    """Let the archive list a member under more names, without any data of their own."""
    with zipfile.ZipFile(machine.archive, "a") as bundle:
        for name in names:
            entry = copy.copy(bundle.getinfo(member))
            entry.filename = name
            bundle.filelist.append(entry)
        bundle.writestr("last", b"")  # so that the list is written anew


def test_more_than_the_dataset_can_have_in_all_is_refused(hostile: Machine) -> None:
    # 700 images that share the data of one: 6.7 GB from 10 MB, each within the limits.
    add(hostile, {"ISIC_8000000.jpg": bytes(9_500_000)})
    list_again(hostile, "ISIC_8000000.jpg", [f"ISIC_{9_000_000 + number}.jpg" for number in range(700)])
    assert_refused(hostile, r"its images have 6\.7 GB")


@pytest.mark.parametrize("what", ["labels", "image"])
def test_a_member_that_holds_more_than_it_says_is_cut_off_and_found_out(hostile: Machine, what: str) -> None:
    name = source.METADATA if what == "labels" else f"{IMAGE_IDS[3]}.jpg"
    with zipfile.ZipFile(hostile.archive) as old:
        members = {item.filename: old.read(item) for item in old.infolist() if not item.filename.endswith(name)}
    hostile.archive.unlink()
    add(hostile, members)
    with zipfile.ZipFile(hostile.archive, "a", zipfile.ZIP_DEFLATED) as bundle, bundle.open(name, "w") as member:
        for _ in range(200):
            member.write(bytes(1_000_000))
    content = bytearray(hostile.archive.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    struct.pack_into("<L", content, entry + 24, 2_000)  # the size it says; its compressed form has 200 kB
    hostile.archive.write_bytes(content)
    with pytest.raises(SourceError, match=f"is damaged .Bad CRC-32 for file '{name}'. and has been deleted"):
        fetch_safely(hostile)
    for path in hostile.destination.rglob(name):
        assert path.stat().st_size <= 2_000


def test_two_images_of_one_name_are_taken_once_if_equal_and_otherwise_refused(hostile: Machine) -> None:
    name = f"{IMAGE_IDS[0]}.jpg"
    with zipfile.ZipFile(hostile.archive) as bundle:
        content = bundle.read(f"{FOLDERS[0]}/{name}")
    add(hostile, {f"again/{name}": content})
    fetch_safely(hostile)
    shutil.rmtree(hostile.destination)
    hostile.destination.mkdir()
    add(hostile, {f"more/{name}": content[::-1]})
    assert_refused(hostile, f"two different files named {name}")


def test_names_that_differ_by_case_only_are_ignored(hostile: Machine) -> None:
    names = [f"{IMAGE_IDS[0]}.JPG", f"{IMAGE_IDS[1].lower()}.jpg", source.METADATA.lower(), "LABELS.CSV"]
    add(hostile, dict.fromkeys(names, b"evil"))
    fetch_safely(hostile)


def rename(machine: Machine, old: bytes, new: bytes, utf8: bool) -> None:
    """Give a member of the archive another name of the same length, in whatever bytes."""
    content = bytearray(machine.archive.read_bytes().replace(old, new))
    if utf8:
        for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            entry = content.rindex(signature, 0, content.index(new) if flags == 6 else content.rindex(new))
            struct.pack_into("<H", content, entry + flags, 0x800)
    machine.archive.write_bytes(content)


def test_a_name_in_no_known_encoding_is_ignored(hostile: Machine) -> None:
    add(hostile, {"isic_name_here.jpg": b"evil"})
    rename(hostile, b"isic_name_here.jpg", b"isic_\xff\xfe\x80\xc3\x28\xe2\x28\x00\x1b.jpg", utf8=False)
    fetch_safely(hostile)


def test_a_name_that_says_it_is_utf_8_and_is_not_makes_a_damaged_archive(hostile: Machine) -> None:
    add(hostile, {"isic_name_here.jpg": b"evil"})
    rename(hostile, b"isic_name_here.jpg", b"isic_\xff\xfe\x80\xc3\x28\xe2\x28\x81\x1b.jpg", utf8=True)
    assert_refused(hostile, "is damaged .*utf-8.* and has been deleted", deleted=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["{}.txt", "ISIC_9{:06d}.jpg"], ids=["unwanted", "images"])
def test_a_hundred_thousand_tiny_entries_are_ignored_or_refused(hostile: Machine, name: str) -> None:
    add(hostile, {"tiny": b""})
    list_again(hostile, "tiny", [name.format(number) for number in range(100_000)])
    if name == "{}.txt":
        fetch_safely(hostile)
    else:
        assert_refused(hostile, f"it has {100_000 + SMALL} images and {SMALL} labels")


def test_a_list_of_files_beyond_all_proportion_is_refused_unread(hostile: Machine) -> None:
    add(hostile, {"tiny": b""})
    list_again(hostile, "tiny", [f"{'long/' * 1000}{number}" for number in range(3_000)])
    assert_refused(hostile, "its list of files has 15 MB")


@pytest.mark.parametrize(
    "table",
    [
        b"",
        b"\x00" * 1_900_000,
        b"," * 1_900_000,
        b"image_id,dx\n" + b"\xff\xfe\n" * 100,
        b'image_id,dx\n"' + b"a" * 1_900_000,
        b"image_id,dx\n" * 200_000,
    ],
    ids=["empty", "zeros", "commas", "not UTF-8", "open quote", "giant"],
)
def test_a_label_table_without_labels_is_refused(hostile: Machine, table: bytes) -> None:
    with zipfile.ZipFile(hostile.archive) as old:
        members = {item.filename: old.read(item) for item in old.infolist()}
    hostile.archive.unlink()
    add(hostile, members | {source.METADATA: table})
    assert_refused(hostile, "is not the expected dataset")


# A disk that runs full


@pytest.fixture
def disk(machine: Machine) -> Iterator[Path]:
    """Give the machine's data a disk of its own."""
    with small_disk(machine.data, megabytes=64):
        yield machine.data


@pytest.mark.slow
def test_a_disk_that_runs_full_while_downloading_is_named_and_the_next_run_goes_on(
    machine: Machine, archive: Path, disk: Path
) -> None:
    size = archive.stat().st_size
    machine.archive_bytes, machine.extracted_bytes = size, size // 2 + CHUNK_BYTES
    remount(disk, "size=16m")
    machine.silence = 3
    machine.server.stall_after = size // 2
    process = machine.start()
    wait_until(lambda: machine.server.bytes_sent == size // 2 and machine.archive.stat().st_size >= chunks(size // 2))
    filler = machine.data / "somebody else's"
    filler.write_bytes(bytes(shutil.disk_usage(machine.data).free - CHUNK_BYTES - 1))
    code, out, err = machine.finish(process)
    retry, line = err.splitlines()
    assert (code, out) == (1, "")
    assert_retries([retry], "the connection to Kaggle failed (silent for 3 s)")
    written = machine.archive.stat().st_size
    needed = f"{(size - written + machine.extracted_bytes) / 1e9:.3g} GB"
    assert f"No space left on device: {machine.work} needs {needed} for the archive and the images, and" in line
    assert "GB are free: make room there and run again, what has been downloaded is kept" in line
    assert {path.name for path in machine.data.iterdir()} == {filler.name, machine.work.name}
    remount(disk, "size=64m")
    machine.assert_fetched()
    assert machine.server.transfers()[-1].range == f"bytes={written}-"
    assert written >= chunks(size // 2)


@pytest.mark.slow
def test_a_disk_that_runs_full_while_extracting_is_named_and_the_next_run_needs_no_network(
    machine: Machine, archive: Path, disk: Path
) -> None:
    machine.extracted_bytes = 1_000_000  # less than there is, as if the dataset had grown
    remount(disk, "size=10m")
    line = machine.refusal()
    assert f"No space left on device: {machine.work} needs 0.001 GB for the archive and the images, and" in line
    free = shutil.disk_usage(machine.data).free
    assert free > machine.extracted_bytes
    assert f"and {free / 1e9:.3g} GB are free: make room there and run again" in line
    assert {path.name for path in machine.data.iterdir()} == {machine.work.name}
    assert machine.archive.read_bytes() == archive.read_bytes()
    machine.server.requests.clear()
    remount(disk, "size=64m")
    machine.assert_fetched()
    assert machine.server.requests == []


# Secrets


@pytest.mark.slow
def test_no_secret_is_in_any_output_or_file_of_the_project_after_failure_and_success(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (machine.environment | machine.settings(tmp_path / "workspace")).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KAGGLE_API_TOKEN", machine.server.token)
    workspace = Workspace(tmp_path / "workspace", tmp_path / "cache", {"data": machine.params})
    server = machine.server
    repro = ("repro", "--verbose", "download")
    server.coming["api"] = [(503, {})] * 2  # the client asks about the token twice, and hides the first answer
    server.cuts = [4 * CHUNK_BYTES]
    server.coming["range"] = [(403, {})]
    outputs = [workspace.dvc(*repro, status=255)]
    assert "Kaggle answered 503; trying again" in outputs[0]
    assert "Kaggle answered with status 403" in outputs[0]
    assert not (workspace.folder / "data/raw").exists()
    monkeypatch.setenv("KAGGLE_API_TOKEN", wrong := "KGAT_wr0ng")
    outputs.append(workspace.dvc(*repro, status=255))
    assert "does not accept the token in KAGGLE_API_TOKEN" in outputs[1]
    files = assert_no_secret(machine, [workspace.folder], outputs, wrong)
    monkeypatch.delenv("KAGGLE_API_TOKEN")
    outputs.append(workspace.dvc(*repro))
    assert DONE in outputs[2]
    assert assert_no_secret(machine, [workspace.folder, tmp_path / "cache"], outputs, wrong) > files
    assert (workspace.folder / "dvc.lock").exists()
    assert len(list((workspace.folder / "data/raw/images").iterdir())) == machine.images


def assert_no_secret(machine: Machine, folders: list[Path], outputs: list[str], *more: str) -> int:
    """Search outputs and files, and return how many files there were."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    for secret in (*machine.server.secrets, *more):
        assert not any(secret in output for output in outputs)
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    return len(files)
