"""Files appear whole or not at all, are replaced and not written into, and paths mean what the user means."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.files import replacing, user_path
from dermoscopy.runtime.workspace import PROJECT


def fail_to_write_file(path: Path, error: BaseException) -> None:
    with replacing(path) as partial:
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
    with replacing(tmp_path / "head.keras") as partial:
        assert partial.suffix == ".keras"
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
