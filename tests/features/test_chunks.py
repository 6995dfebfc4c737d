"""The store of computed features: what survives, for what it is used, and what damage does."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from stages.common import store

from dermoscopy.features.chunks import ViewStore, image_keys, prune, view_key
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Augmentation
from tests.support.params_file import PARAMS

AUGMENTATION = Augmentation(views=4, horizontal_flip=True, vertical_flip=True, rotation=0.3, zoom=0.2, seed=1)
KEY = view_key("backbone", "engine", AUGMENTATION, 1)


def manifest(names: str) -> pd.DataFrame:
    """Return a manifest of images named by one letter each, with contents of their own."""
    return pd.DataFrame({"image_id": list(names), "sha256": [f"content of {name}" for name in names]})


def features_of(names: str) -> NDArray[np.float32]:
    """Return features, (images, 5), that are different for each letter."""
    return np.array([[ord(name), 1, 2, 3, ord(name) / 7] for name in names], np.float32)


def open_store(root: Path, names: str, key: str = KEY) -> ViewStore:
    return ViewStore(root, key, image_keys(manifest(names)), dim=5)


def fill(root: Path, *chunks: str) -> None:
    """Store the features of images, chunk by chunk."""
    names = "".join(chunks)
    store = open_store(root, names)
    for chunk in chunks:
        store.add([names.index(name) for name in chunk], features_of(chunk))


def found(root: Path, names: str, key: str = KEY) -> str:
    """Return which of these images need not be computed again."""
    store = open_store(root, names, key)
    return "".join(name for number, name in enumerate(names) if number in store)


def read_back(store: ViewStore, names: str) -> NDArray[np.float32]:
    """Return the features of all images of a store; a row of NaN where it has none."""
    matrix = np.full((len(names), 5), np.nan, np.float32)
    for numbers, features in store.read():
        matrix[numbers] = features
    return matrix


def chunk_of(root: Path, name: str) -> Path:
    """Return the file that holds the features of an image."""
    key = image_keys(manifest(name))[0]
    (path,) = (path for path in root.rglob("*.chunk") if key in path.read_bytes())
    return path


def test_an_empty_store_has_nothing(tmp_path: Path) -> None:
    assert found(tmp_path / "store", "abc") == ""


def test_chunks_survive_and_give_the_same_features_back(tmp_path: Path) -> None:
    fill(tmp_path, "abc", "de")
    assert found(tmp_path, "abcde") == "abcde"
    assert np.array_equal(read_back(open_store(tmp_path, "abcde"), "abcde"), features_of("abcde"))


def test_features_just_added_are_read_back_without_opening_the_store_again(tmp_path: Path) -> None:
    store = open_store(tmp_path, "abc")
    store.add([2, 0], features_of("ca"))
    store.add([1], features_of("b"))
    assert np.array_equal(read_back(store, "abc"), features_of("abc"))


@pytest.mark.parametrize("names", ["edcba", "bd", "dxbya", "xabcdey"])
def test_the_set_of_images_and_their_order_may_change(tmp_path: Path, names: str) -> None:
    fill(tmp_path, "abc", "de")
    known = "".join(name for name in names if name in "abcde")
    assert found(tmp_path, names) == known
    matrix = read_back(open_store(tmp_path, names), names)
    for name, row in zip(names, matrix, strict=True):
        assert np.array_equal(row, features_of(name)[0]) if name in known else np.isnan(row).all()


def test_an_image_with_new_content_or_a_new_name_is_computed_again(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    changed = manifest("abc")
    changed.loc[0, "sha256"] = "new content"
    changed.loc[1, "image_id"] = "new name"
    store = ViewStore(tmp_path, KEY, image_keys(changed), dim=5)
    assert [number in store for number in range(3)] == [False, False, True]


def test_features_of_another_view_are_not_used(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    assert found(tmp_path, "abc", view_key("backbone", "engine", AUGMENTATION, 2)) == ""


@pytest.mark.parametrize(
    "change",
    [{"horizontal_flip": False}, {"vertical_flip": False}, {"rotation": 0.2}, {"zoom": 0.1}, {"seed": 2}],
    ids=str,
)
def test_a_change_of_the_augmentation_makes_other_views_but_not_another_view_0(change: dict[str, Any]) -> None:
    changed = AUGMENTATION.model_copy(update=change)
    assert view_key("backbone", "engine", changed, 1) != KEY
    assert view_key("backbone", "engine", changed, 0) == view_key("backbone", "engine", AUGMENTATION, 0)


def test_backbone_engine_and_number_make_another_view() -> None:
    keys = {
        view_key(backbone, engine, AUGMENTATION, view)
        for backbone in ("backbone", "other")
        for engine in ("engine", "other")
        for view in (0, 1, 2)
    }
    assert len(keys) == 12


def test_more_views_keep_those_there_are() -> None:
    assert view_key("backbone", "engine", AUGMENTATION.model_copy(update={"views": 9}), 1) == KEY


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_chunk_is_dropped_and_only_its_images_are_computed_again(tmp_path: Path, share: float) -> None:
    fill(tmp_path, "abc", "de")
    damaged = chunk_of(tmp_path, "d")
    content = damaged.read_bytes()
    damaged.write_bytes(content[: int(share * len(content))])
    store = open_store(tmp_path, "abcde")
    assert [number in store for number in range(5)] == [True, True, True, False, False]
    assert not damaged.exists()
    store.add([3, 4], features_of("de"))
    assert np.array_equal(read_back(store, "abcde"), features_of("abcde"))


def test_no_flipped_bit_gives_a_feature_or_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    path = chunk_of(tmp_path, "a")
    content = path.read_bytes()
    for place, bit in ((place, bit) for place in range(len(content)) for bit in range(8)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        assert np.isnan(read_back(open_store(tmp_path, "abc"), "abc")).all(), f"byte {place} bit {bit}"


def test_a_file_of_something_else_is_dropped(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    foreign = chunk_of(tmp_path, "a").with_name("foreign.chunk")
    foreign.write_bytes(np.random.default_rng(0).bytes(5_000))
    assert found(tmp_path, "abc") == "abc"
    assert not foreign.exists()


def test_a_chunk_moved_here_from_another_view_is_dropped(tmp_path: Path) -> None:
    other = view_key("backbone", "engine", AUGMENTATION, 2)
    fill(tmp_path, "abc")
    open_store(tmp_path, "abc", other)
    chunk = chunk_of(tmp_path, "a")
    moved = chunk.replace(tmp_path / other[:32] / chunk.name)
    assert found(tmp_path, "abc", other) == ""
    assert not moved.exists()


def test_a_chunk_that_is_damaged_after_the_store_was_opened_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    store = open_store(tmp_path, "abc")
    path = chunk_of(tmp_path, "a")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"{path.name} was damaged"):
        read_back(store, "abc")


def test_what_a_killed_run_left_half_written_does_no_harm(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    whole = chunk_of(tmp_path, "a")
    whole.with_name(f".partial.{whole.name}").write_bytes(whole.read_bytes()[:100])
    assert np.array_equal(read_back(open_store(tmp_path, "abc"), "abc"), features_of("abc"))


def test_pruning_keeps_the_most_recently_used_views(tmp_path: Path) -> None:
    keys = [view_key("backbone", "engine", AUGMENTATION, view) for view in range(5)]
    for day, key in enumerate(keys):
        open_store(tmp_path, "a", key).add([0], features_of("a"))
        (folder,) = (path for path in tmp_path.iterdir() if key.startswith(path.name))
        os.utime(folder, (86_400 * day, 86_400 * day))
    open_store(tmp_path, "a", keys[1])
    prune(tmp_path, keep=2)
    assert [found(tmp_path, "a", key) for key in keys] == ["", "a", "", "", "a"]


def test_pruning_removes_nothing_as_long_as_there_is_room(tmp_path: Path) -> None:
    fill(tmp_path, "abc")
    prune(tmp_path)
    assert found(tmp_path, "abc") == "abc"


def test_a_view_made_by_other_code_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = view_key("backbone", "engine", PARAMS.augmentation, 1)
    assert view_key("backbone", "engine", PARAMS.augmentation, 1) == before
    # the code cannot be changed on disk while it runs
    monkeypatch.setattr(store, "getsource", lambda module: "def render_views(): ...")
    assert view_key("backbone", "engine", PARAMS.augmentation, 1) != before
