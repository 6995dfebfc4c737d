"""Chunks of computed features: what survives, for what it is used, and what damage does."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features.chunks import ViewChunks, chunk_folder, prune
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import PARAMS

KEY, OTHER = (view_key("backbone", "engine", PARAMS.augmentation, view) for view in (1, 2))


def manifest(names: str) -> pd.DataFrame:
    """Return a manifest of images named by one letter each, with contents of their own."""
    return pd.DataFrame({"image_id": list(names), "sha256": [f"content of {name}" for name in names]})


def features_of(names: str) -> NDArray[np.float32]:
    """Return features, (images, 5), that are different for each letter."""
    return np.array([[ord(name), 1, 2, 3, ord(name) / 7] for name in names], np.float32)


def open_chunks(root: Path, names: str, key: str = KEY) -> ViewChunks:
    return ViewChunks(root, key, image_keys(manifest(names)), (5,))


def fill(root: Path, *chunks: str) -> None:
    """Store the features of images, chunk by chunk."""
    names = "".join(chunks)
    view = open_chunks(root, names)
    for chunk in chunks:
        view.add([names.index(name) for name in chunk], features_of(chunk))


def found(root: Path, names: str, key: str = KEY) -> str:
    """Return which of these images need not be computed again."""
    view = open_chunks(root, names, key)
    return "".join(name for number, name in enumerate(names) if number in view)


def read_back(view: ViewChunks, names: str) -> NDArray[np.float32]:
    """Return the features of all images of a view; a row of NaN where it has none."""
    matrix = np.full((len(names), 5), np.nan, np.float32)
    for numbers, features in view.read():
        matrix[numbers] = features
    return matrix


def chunk_of(root: Path, name: str) -> Path:
    """Return the file that holds the features of an image."""
    key = image_keys(manifest(name))[0]
    (path,) = (path for path in root.rglob("*.chunk") if key in path.read_bytes())
    return path


def test_a_view_without_chunks_has_nothing(tmp_path: Path) -> None:
    assert found(tmp_path / "chunks", "abc") == ""


def test_chunks_survive_and_give_the_same_features_back(tmp_path: Path) -> None:
    fill(tmp_path, "abc", "de")
    assert found(tmp_path, "abcde") == "abcde"
    assert np.array_equal(read_back(open_chunks(tmp_path, "abcde"), "abcde"), features_of("abcde"))


def test_features_just_added_are_read_back_without_opening_the_view_again(tmp_path: Path) -> None:
    view = open_chunks(tmp_path, "abc")
    view.add([2, 0], features_of("ca"))
    view.add([1], features_of("b"))
    assert np.array_equal(read_back(view, "abc"), features_of("abc"))


@pytest.mark.parametrize("names", ["edcba", "bd", "dxbya", "xabcdey"])
def test_the_set_of_images_and_their_order_may_change(tmp_path: Path, names: str) -> None:
    fill(tmp_path, "abc", "de")
    known = "".join(name for name in names if name in "abcde")
    assert found(tmp_path, names) == known
    matrix = read_back(open_chunks(tmp_path, names), names)
    for name, row in zip(names, matrix, strict=True):
        assert np.array_equal(row, features_of(name)[0]) if name in known else np.isnan(row).all()


def test_an_image_with_new_content_or_a_new_name_is_computed_again(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    changed = manifest("abc")
    changed.loc[0, "sha256"] = "new content"
    changed.loc[1, "image_id"] = "new name"
    view = ViewChunks(tmp_path, KEY, image_keys(changed), (5,))
    assert [number in view for number in range(3)] == [False, False, True]


def test_features_of_another_view_are_not_used(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    assert found(tmp_path, "abc", OTHER) == ""


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_chunk_is_dropped_and_only_its_images_are_computed_again(tmp_path: Path, share: float) -> None:
    fill(tmp_path, "abc", "de")
    damaged = chunk_of(tmp_path, "d")
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(share * len(content))])
    view = open_chunks(tmp_path, "abcde")
    assert [number in view for number in range(5)] == [True, True, True, False, False]
    assert not damaged.exists()
    view.add([3, 4], features_of("de"))
    assert np.array_equal(read_back(view, "abcde"), features_of("abcde"))


def test_no_flipped_bit_gives_a_feature_or_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    path = chunk_of(tmp_path, "a")
    content = path.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert np.isnan(read_back(open_chunks(tmp_path, "abc"), "abc")).all(), f"byte {place}"


def test_a_file_of_something_else_is_dropped(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    foreign = chunk_of(tmp_path, "a").with_name("foreign.chunk")
    foreign.write_bytes(np.random.default_rng(0).bytes(5_000))
    assert found(tmp_path, "abc") == "abc"
    assert not foreign.exists()


def test_a_chunk_moved_here_from_another_view_is_dropped(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    open_chunks(tmp_path, "abc", OTHER)
    chunk = chunk_of(tmp_path, "a")
    moved = chunk.replace(tmp_path / OTHER[:32] / chunk.name)
    assert found(tmp_path, "abc", OTHER) == ""
    assert not moved.exists()


def test_a_chunk_that_is_damaged_after_the_view_was_opened_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    view = open_chunks(tmp_path, "abc")
    path = chunk_of(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{path.name} was damaged"):
        read_back(view, "abc")


def test_what_a_killed_run_left_half_written_does_no_harm(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    whole = chunk_of(tmp_path, "a")
    whole.with_name(f".partial.{whole.name}").write_bytes(whole.read_bytes()[:100])
    assert np.array_equal(read_back(open_chunks(tmp_path, "abc"), "abc"), features_of("abc"))


def test_pruning_keeps_the_most_recently_used_views(tmp_path: Path) -> None:
    keys = [view_key("backbone", "engine", PARAMS.augmentation, view) for view in range(5)]
    for day, key in enumerate(keys):
        open_chunks(tmp_path, "a", key).add([0], features_of("a"))
        (folder,) = (path for path in tmp_path.iterdir() if key.startswith(path.name))
        os.utime(folder, (86_400 * day, 86_400 * day))
    open_chunks(tmp_path, "a", keys[1])
    prune(tmp_path, keep=2)
    assert [found(tmp_path, "a", key) for key in keys] == ["", "a", "", "", "a"]


def test_pruning_removes_nothing_as_long_as_there_is_room(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    prune(tmp_path)
    assert found(tmp_path, "abc") == "abc"


def test_a_copy_for_an_experiment_has_the_chunks_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / ".dvc/tmp/exps/standalone/tmpabc"
    copy.mkdir(parents=True)
    found = []
    for folder in (tmp_path, copy):
        monkeypatch.chdir(folder)
        with chunk_folder() as chunks:
            found.append(chunks)
    assert found == [tmp_path / "data/.features"] * 2


def test_one_process_at_a_time_has_the_chunks_until_it_ends_or_is_killed(tmp_path: Path) -> None:
    code = """
from dermoscopy.features.chunks import chunk_folder
with chunk_folder():
    print("mine", flush=True)
    input()
"""

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    with start() as first:
        assert first.stdout
        assert first.stdout.readline() == "mine\n"
        with (tmp_path / "data/.features/.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with start() as second:
            assert second.stdout
            first.kill()
            assert second.stdout.readline() == "mine\n"
            second.communicate("\n")
            assert second.returncode == 0
