"""Reading data/features: the right rows of the right views, from disk, and one line about a folder at fault."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features import store
from dermoscopy.features.store import FeatureReader, FeaturesInfo, sealed, view_file
from dermoscopy.runtime.errors import DataError
from tests.support.feature_folder import write_feature_folder

IMAGES, VIEWS, DIM = 6, 3, 4


@pytest.fixture
def features() -> NDArray[np.float32]:
    return np.random.default_rng(0).random((IMAGES, VIEWS, DIM), np.float32)


@pytest.fixture
def folder(tmp_path: Path, features: NDArray[np.float32]) -> Path:
    write_feature_folder(tmp_path / "features", features)
    return tmp_path / "features"


def test_rows_are_found_by_image_id_in_any_order(folder: Path) -> None:
    reader = FeatureReader(folder)
    assert reader.rows(["image_4", "image_0", "image_4"]).tolist() == [4, 0, 4]
    assert list(reader.image_ids) == [f"image_{number}" for number in range(IMAGES)]


def test_an_image_without_features_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="image_9 has no features"):
        FeatureReader(folder).rows(["image_1", "image_9"])


@pytest.mark.parametrize("held", [0, 2**20], ids=["read", "held"])
def test_a_view_gives_the_rows_asked_for(
    folder: Path, features: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    monkeypatch.setattr(store, "HELD", held)
    rows = np.array([5, 0, 5])
    view = FeatureReader(folder).view(1, rows)
    assert view.dtype == np.float32
    assert np.array_equal(view, features[rows, 1])


def test_each_image_gets_the_view_chosen_for_it(folder: Path, features: NDArray[np.float32]) -> None:
    rows, views = np.array([5, 0, 3, 1, 1]), np.array([2, 0, 1, 1, 2])
    assert np.array_equal(FeatureReader(folder).random_views(rows, views), features[rows, views])


def test_the_number_of_views_includes_the_image_itself(folder: Path) -> None:
    assert FeatureReader(folder).info.views == VIEWS


def test_what_is_too_large_is_not_loaded_to_read_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "HELD", 15_000_000)
    write_feature_folder(tmp_path / "features", np.ones((2_000, 2, 1_000), np.float32))  # 16 MB
    tracemalloc.start()
    try:
        reader = FeatureReader(tmp_path / "features")
        assert reader.view(1, np.array([1_999])).sum() == 1_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("name", ["features.json", "index.csv", "view_000.npy", "view_002.npy"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"features.*{name}"):
        FeatureReader(folder)


def test_a_folder_that_is_missing_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="run dvc repro features"):
        FeatureReader(tmp_path / "features")


@pytest.mark.parametrize(
    ("name", "message"),
    [("features.json", "cannot be read"), ("index.csv", "is damaged"), ("view_001.npy", "is damaged")],
)
def test_a_truncated_file_is_noticed(folder: Path, name: str, message: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=message):
        FeatureReader(folder)


def reseal(folder: Path, **changes: Any) -> None:
    """Change features.json and give it a checksum that is right."""
    path = folder / "features.json"
    info = FeaturesInfo.model_validate_json(path.read_text()).model_copy(update=changes)
    path.write_text(sealed(info, folder).model_dump_json())


def test_whatever_is_said_in_features_json_is_under_the_checksum(folder: Path) -> None:
    path = folder / "features.json"
    path.write_text(path.read_text().replace('"zoom":0.2', '"zoom":0.3'))
    with pytest.raises(DataError, match="is damaged"):
        FeatureReader(folder)


@pytest.mark.parametrize("shape", [(IMAGES - 1, DIM), (IMAGES, DIM + 1)])
def test_views_of_different_shapes_are_noticed(folder: Path, shape: tuple[int, int]) -> None:
    np.save(view_file(folder, 1), np.zeros(shape, np.float32))
    reseal(folder)
    with pytest.raises(DataError, match="contradict each other"):
        FeatureReader(folder)


def test_an_index_of_other_length_is_noticed(folder: Path) -> None:
    pd.read_csv(folder / "index.csv").head(2).to_csv(folder / "index.csv", index=False)
    reseal(folder)
    with pytest.raises(DataError, match="contradict each other"):
        FeatureReader(folder)


def test_numbers_of_another_type_are_noticed(folder: Path) -> None:
    np.save(view_file(folder, 1), np.zeros((IMAGES, DIM), np.int32))
    reseal(folder)
    with pytest.raises(DataError, match="contradict each other"):
        FeatureReader(folder)


def test_a_size_that_no_memory_holds_is_noticed(folder: Path) -> None:
    reseal(folder, images=10**30)
    with pytest.raises(DataError, match="contradict each other"):
        FeatureReader(folder)


def test_an_index_with_an_image_twice_is_noticed(folder: Path) -> None:
    index = pd.read_csv(folder / "index.csv")
    index["image_id"] = index["image_id"].replace("image_1", "image_0")
    index.to_csv(folder / "index.csv", index=False)
    reseal(folder)
    with pytest.raises(DataError, match="contradict each other"):
        FeatureReader(folder)


def test_an_index_without_images_is_noticed(folder: Path) -> None:
    (folder / "index.csv").write_text("name\n" * (IMAGES + 1))
    reseal(folder)
    with pytest.raises(DataError, match="has no column image_id"):
        FeatureReader(folder)


def test_a_view_that_becomes_shorter_while_it_is_open_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "HELD", 0)
    reader = FeatureReader(folder)
    path = view_file(folder, 1)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="became shorter"):
        reader.view(1, np.arange(IMAGES))
