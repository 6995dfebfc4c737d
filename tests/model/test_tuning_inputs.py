"""What fine-tuning learns from: every image once an epoch, a view of each, by the seed and the epoch alone."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.data.images import ImageFile
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.extraction import prepare_views
from dermoscopy.model.finetuning import faults_of
from dermoscopy.model.tuning_inputs import DrawnViews, Epochs, KeptViews, OneView, StoredFeatures
from dermoscopy.runtime.errors import DataError
from tests.support.params_file import PARAMS
from tests.support.stage_project import make_project

IMAGES = 10
TARGETS = (np.arange(IMAGES) % 3).astype(np.int32)
WEIGHTS = np.linspace(1, 2, IMAGES, dtype=np.float32)


def numbered(views: int = 3) -> StoredFeatures:
    """Return features of two numbers, the image and the view."""
    image, view = np.meshgrid(np.arange(IMAGES), np.arange(views), indexing="ij")
    return StoredFeatures(np.stack([image, view], axis=-1).astype(np.float32))


def epoch(epochs: Epochs, number: int) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
    """Return all of an epoch."""
    epochs.begin(number)
    batches = [epochs[number] for number in range(len(epochs))]
    features, targets, weights = (np.concatenate(of_all) for of_all in zip(*batches, strict=True))
    return features, targets, weights


def test_an_epoch_has_every_image_once_with_its_target_and_weight() -> None:
    epochs = Epochs(numbered(), TARGETS, WEIGHTS, size=4, seed=1)
    assert len(epochs) == 3
    features, targets, weights = epoch(epochs, 1)
    numbers = features[:, 0].astype(int)
    assert sorted(numbers) == list(range(IMAGES))
    np.testing.assert_array_equal(targets, TARGETS[numbers])
    np.testing.assert_array_equal(weights, WEIGHTS[numbers])


def test_epochs_differ_in_order_and_views_and_all_views_occur() -> None:
    epochs = Epochs(numbered(), TARGETS, WEIGHTS, size=4, seed=1)
    seen = [epoch(epochs, number)[0] for number in range(1, 7)]
    assert len({features[:, 0].tobytes() for features in seen}) == 6
    assert {float(view) for features in seen for view in features[:, 1]} == {0.0, 1.0, 2.0}


def test_an_epoch_depends_on_its_number_alone() -> None:
    first, second = (Epochs(numbered(), TARGETS, WEIGHTS, size=4, seed=1) for _ in range(2))
    expected = [epoch(first, number)[0] for number in (1, 2, 3)]
    np.testing.assert_array_equal(epoch(second, 3)[0], expected[2])
    np.testing.assert_array_equal(epoch(second, 1)[0], expected[0])


def test_another_seed_shuffles_otherwise() -> None:
    first, second = (epoch(Epochs(numbered(), TARGETS, WEIGHTS, size=4, seed=seed), 1)[0] for seed in (1, 2))
    assert not np.array_equal(first, second)


def test_one_view_of_each_image_comes_in_order() -> None:
    batches = OneView(numbered(), np.arange(IMAGES), 2, TARGETS)
    features, targets = (
        np.concatenate(of_all) for of_all in zip(*[batches[i] for i in range(len(batches))], strict=True)
    )
    np.testing.assert_array_equal(features, [[number, 2] for number in range(IMAGES)])
    np.testing.assert_array_equal(targets, TARGETS)


def test_kept_views_are_read_from_their_chunks(tmp_path: Path) -> None:
    keys = [number.to_bytes(32, "big") for number in range(IMAGES)]
    values = np.random.default_rng(0).normal(size=(2, IMAGES, 4, 4, 3)).astype(np.float32)
    chunks = [ViewChunks(tmp_path, f"view {view}", keys, (4, 4, 3), np.float16) for view in range(2)]
    for view, of_view in enumerate(chunks):
        of_view.add([3, 1, 2], values[view, [3, 1, 2]])
        of_view.add([0, *range(4, IMAGES)], values[view, [0, *range(4, IMAGES)]])
    read = KeptViews(chunks).read(np.array([2, 9, 2]), np.array([0, 1, 1]))
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, values[[0, 1, 1], [2, 9, 2]], rtol=1e-3, atol=1e-3)
    again = ViewChunks(tmp_path, "view 0", keys, (4, 4, 3), np.float16)
    assert again.bytes_missing == 0


@pytest.fixture(scope="module")
def photographs(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("photographs")
    make_project(folder, backbones["first"], 4)
    table = pd.read_csv(folder / "data/manifest.csv")
    return table.assign(path=[str(folder / path) for path in table["path"]])


def test_drawn_views_are_those_of_the_features_and_new_in_every_epoch(photographs: pd.DataFrame) -> None:
    augmentation = PARAMS.augmentation
    views = DrawnViews(photographs, augmentation, 64)
    drawn = views.drawn(np.random.default_rng(0), 7, 4)
    assert list(drawn) == [7] * 4
    read = views.read(np.array([2, 0]), drawn[:2])
    assert read.shape == (2, 64, 64, 3)
    image = ImageFile(*photographs.loc[2, ["image_id", "path", "sha256"]])
    np.testing.assert_array_equal(read[0], prepare_views(image, (7,), augmentation, 64)[0])


def test_an_image_that_is_gone_in_mid_training_is_said_in_our_own_words(photographs: pd.DataFrame) -> None:
    paths = [*photographs["path"][:-1], "gone.jpg"]
    views = DrawnViews(photographs.assign(path=paths), PARAMS.augmentation, 64)
    batches = OneView(views, np.arange(4).repeat(100), 0, TARGETS[:4].repeat(100))  # Keras asks for some ahead
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(DataError, match=r"gone\.jpg is missing"), faults_of(batches):
        model.predict(batches, verbose=0)
