"""Files appear whole or not at all, are replaced and not written into, and paths mean what the user means."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.files import replacing, user_output, user_path
from dermoscopy.runtime.workspace import PROJECT


def fail_to_write_file(path: Path, error: BaseException, output: Any = replacing) -> None:
    with output(path) as partial:
        partial.write_text("half")
        raise error


def fail_to_write_folder(path: Path) -> None:
    with replacing(path) as partial:
        partial.mkdir()
        (partial / "half.txt").touch()
        raise ZeroDivisionError


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_file_appears_with_its_content_and_nothing_beside_it(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "file.txt") as partial:
        partial.write_text("whole")
        assert not (tmp_path / "new/file.txt").exists()
    assert files_in(tmp_path) == ["new", "new/file.txt"]
    assert (tmp_path / "new/file.txt").read_text() == "whole"


def test_the_suffix_stays_so_that_libraries_choose_the_format_by_it(tmp_path: Path) -> None:
    with replacing(tmp_path / "head.npz") as partial:
        assert partial.suffix == ".npz"
        partial.touch()


def test_a_folder_appears_in_place_of_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old.txt").touch()
    with replacing(tmp_path / "folder") as partial:
        (partial / "inner").mkdir(parents=True)
        (partial / "inner/new.txt").touch()
    assert files_in(tmp_path) == ["folder", "folder/inner", "folder/inner/new.txt"]


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=repr)
def test_after_an_error_the_old_file_stands_and_nothing_is_beside_it(tmp_path: Path, error: BaseException) -> None:
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(type(error)):
        fail_to_write_file(tmp_path / "file.txt", error)
    assert files_in(tmp_path) == ["file.txt"]
    assert (tmp_path / "file.txt").read_text() == "old"


def test_after_an_error_the_old_folder_stands_and_nothing_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/old.txt").touch()
    with pytest.raises(ZeroDivisionError):
        fail_to_write_folder(tmp_path / "folder")
    assert files_in(tmp_path) == ["folder", "folder/old.txt"]


def test_a_killed_process_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from dermoscopy.runtime.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as partial:\n"
        "    partial.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "file.txt"
    path.write_text("old")
    result = subprocess.run([sys.executable, "-c", code, str(path)], cwd=PROJECT, check=False)
    assert result.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(files_in(tmp_path)) == 2
    with replacing(path) as partial:
        partial.write_text("whole")
    assert files_in(tmp_path) == ["file.txt"]
    assert path.read_text() == "whole"


def test_what_is_left_of_a_killed_folder_is_not_mixed_with_the_new_one(tmp_path: Path) -> None:
    with replacing(tmp_path / "folder") as partial:
        partial.mkdir()
    partial.mkdir()
    (partial / "left.txt").touch()
    with replacing(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "new.txt").touch()
    assert files_in(tmp_path) == ["folder", "folder/new.txt"]


@pytest.mark.parametrize("link", [os.link, os.symlink], ids=["hard link", "symbolic link"])
def test_a_file_that_is_linked_into_a_cache_leaves_the_cache_alone(tmp_path: Path, link: object) -> None:
    cached, path = tmp_path / "cached", tmp_path / "file.txt"
    cached.write_text("old")
    cached.chmod(0o444)
    assert callable(link)
    link(cached, path)
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new"
    assert not path.is_symlink()
    assert cached.read_text() == "old"


def test_a_folder_that_is_linked_into_a_cache_leaves_the_cache_alone(tmp_path: Path) -> None:
    (tmp_path / "cached").mkdir()
    (tmp_path / "cached/old.txt").touch()
    (tmp_path / "folder").symlink_to(tmp_path / "cached")
    with replacing(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "new.txt").touch()
    assert not (tmp_path / "folder").is_symlink()
    assert files_in(tmp_path) == ["cached", "cached/old.txt", "folder", "folder/new.txt"]


def test_a_relative_path_starts_at_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert user_path("images") == tmp_path / "images"
    assert user_path("../images") == tmp_path.parent / "images"
    assert user_path("/data/images") == Path("/data/images")


def test_a_tilde_means_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/images") == tmp_path / "images"


def test_in_the_copy_that_dvc_makes_for_an_experiment_a_path_starts_at_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmp1234"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    assert user_path("images") == tmp_path / "images"
    assert user_path("../images") == tmp_path.parent / "images"


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "dear.txt").write_text("dear")
    with pytest.raises(DataError, match="is a folder"), replacing(folder) as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert (folder / "dear.txt").read_text() == "dear"


# What a tool does with an output that a user names, and what it prints beside it.
WRITE = (
    "import sys; from pathlib import Path; from dermoscopy.runtime.commands import run_command\n"
    "from dermoscopy.runtime.files import user_output\n"
    "def main():\n"
    "    with user_output(Path(sys.argv[1])) as path:\n"
    "        path.write_text('content\\n')\n"
    "run_command(main)"
)


def write(path: Path | str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Write to a path that a user names, in a process of its own."""
    command = [sys.executable, "-c", WRITE, str(path)]
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, env=environment, check=False, timeout=60, **options)


def refusal(path: Path, **options: Any) -> str:
    """Return the one line with which writing there ends."""
    result = write(path, stderr=subprocess.PIPE, **options)
    assert result.returncode == 1
    assert result.stderr.count(b"\n") == 1
    return result.stderr.decode()


class TestUserOutput:
    """A file that a user names."""

    @pytest.mark.parametrize("exists", [True, False])
    def test_through_links_the_target_is_replaced_and_the_links_stay(self, tmp_path: Path, exists: bool) -> None:
        target, inner, outer = tmp_path / "there/target.csv", tmp_path / "there/inner.csv", tmp_path / "outer.csv"
        target.parent.mkdir()
        if exists:
            target.write_text("old")
        inner.symlink_to("target.csv")
        outer.symlink_to("there/inner.csv")
        with user_output(outer) as path:
            path.write_text("new")
        assert target.read_text() == outer.read_text() == "new"
        assert outer.is_symlink()
        assert inner.is_symlink()
        assert files_in(tmp_path) == ["outer.csv", "there", "there/inner.csv", "there/target.csv"]

    def test_after_an_error_the_target_of_a_link_stands(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_text("old")
        (tmp_path / "link").symlink_to("target")
        with pytest.raises(ZeroDivisionError):
            fail_to_write_file(tmp_path / "link", ZeroDivisionError(), user_output)
        assert (tmp_path / "link").read_text() == "old"
        assert files_in(tmp_path) == ["link", "target"]

    @pytest.mark.parametrize("linked", [False, True])
    def test_a_named_pipe_is_written_to(self, tmp_path: Path, linked: bool) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        (tmp_path / "link").symlink_to(pipe)
        with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:  # noqa: S607
            assert write(tmp_path / "link" if linked else pipe).returncode == 0
            assert reader.communicate(timeout=60)[0] == b"content\n"
        assert pipe.is_fifo()
        assert files_in(tmp_path) == ["link", "pipe"]

    @pytest.mark.parametrize("name", ["-", "stdout"])
    def test_standard_output_is_written_to_where_it_is_a_pipe(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "stdout").symlink_to("/dev/fd/1")
        assert write(name, cwd=tmp_path, stdout=subprocess.PIPE).stdout == b"content\n"
        assert (tmp_path / "stdout").is_symlink()
        assert files_in(tmp_path) == ["stdout"]

    @pytest.mark.parametrize("name", ["-", "stdout", "file.txt"])
    def test_standard_output_is_written_to_where_it_is_a_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "stdout").symlink_to("/dev/fd/1")
        with (tmp_path / "file.txt").open("wb") as file:
            file.write(b"before\n")
            file.flush()
            assert write(name, cwd=tmp_path, stdout=file).returncode == 0
            file.write(b"after\n")
        assert (tmp_path / "file.txt").read_bytes() == b"before\ncontent\nafter\n"

    def test_standard_error_is_not_replaced(self, tmp_path: Path) -> None:
        with (tmp_path / "log.txt").open("ab") as file:
            file.write(b"before\n")
            file.flush()
            assert write(tmp_path / "log.txt", stderr=file).returncode == 0
        assert (tmp_path / "log.txt").read_bytes() == b"before\ncontent\n"

    def test_a_device_is_written_to(self, tmp_path: Path) -> None:
        (tmp_path / "null").symlink_to(os.devnull)
        (tmp_path / "full").symlink_to("/dev/full")
        assert write(tmp_path / "null").returncode == 0
        line = f"error: {tmp_path / 'full'} cannot be written to (No space left on device): fix this and run again\n"
        assert refusal(tmp_path / "full") == line
        assert Path(os.devnull).is_char_device()
        assert files_in(tmp_path) == ["full", "null"]

    def test_a_standard_output_whose_reader_has_seen_enough_is_no_fault_to_be_told(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        result = write("-", stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (result.returncode, result.stderr) == (1, b"")

    def test_a_folder_is_refused_before_the_work_is_done(self, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(DataError, match="is a folder"), user_output(tmp_path / "link"):
            pytest.fail("the work was begun")

    @pytest.mark.parametrize("name", ["missing/file.csv", "link"])
    def test_a_missing_folder_is_refused_before_the_work_is_done(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "link").symlink_to("missing/file.csv")
        with pytest.raises(DataError, match=r"missing does not exist: make it first"), user_output(tmp_path / name):
            pytest.fail("the work was begun")
        assert files_in(tmp_path) == ["link"]

    def test_links_that_end_nowhere_are_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "loop").symlink_to("loop")
        assert "Too many levels of symbolic links" in refusal(tmp_path / "loop")
        (tmp_path / "file").touch()
        assert "Not a directory" in refusal(tmp_path / "file/under.csv")
        assert files_in(tmp_path) == ["file", "loop"]
