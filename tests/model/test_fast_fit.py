"""The fast fit: it learns what Keras' own fit learns from the same batches; and what the batches hold."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from dermoscopy.features.store import FeatureReader, view_file
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.fast_fit import (
    TRAINING_IMAGES,
    VALIDATION_IMAGES,
    Feed,
    HeadTrainer,
    TrainingBlocks,
    ValidationBlocks,
    block_bounds,
    fit,
)
from dermoscopy.model.head import build_head, predict_probabilities
from dermoscopy.model.training import feature_moments
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Train
from tests.model.conftest import CLASSES, DIM, VIEWS
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS

TRAIN = PARAMS.train.model_copy(update={"batch_size": 32, "seed": 1})


TO_LEARN, TO_STOP = 520, 300  # images; those that decide when to stop are more than one block


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    """`row` and `target` of images in four classes, one of them rare."""
    random = np.random.default_rng(5)
    count = TO_LEARN + TO_STOP
    return pd.DataFrame({"row": np.arange(count), "target": random.choice(4, count, p=[0.5, 0.3, 0.15, 0.05])})


@pytest.fixture(scope="module")
def one_view(images: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> FeatureReader:
    """Features, one view of each image, of which the classes overlap."""
    random = np.random.default_rng(6)
    means = random.normal(size=(4, 24))
    values = 10 + 3 * (means[images["target"]] + 2 * random.normal(size=(len(images), 24)))
    return write_feature_folder(tmp_path_factory.mktemp("one_view") / "features", values[:, None].astype(np.float32))


def plain_fit(
    head: Any, features: FeatureReader, training: pd.DataFrame, validation: pd.DataFrame, train: Train
) -> dict[str, list[float]]:
    """Train a head as the documentation of Keras does, on the batches of `fit`, and return the history."""
    blocks = TrainingBlocks(features, training, train)

    def batches() -> Iterator[tuple[NDArray[Any], ...]]:
        while True:
            for one_view, kept, targets, weights in blocks.epoch():
                assert kept.all()
                yield from zip(one_view, targets, weights, strict=True)

    optimizer = keras.optimizers.Adam(train.learning_rate)
    head.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    stop = keras.callbacks.EarlyStopping("val_loss", patience=train.patience, restore_best_weights=True)
    history = head.fit(
        batches(),
        steps_per_epoch=-(-len(training) // train.batch_size),
        epochs=train.epochs,
        validation_data=(features.view(0, validation["row"].to_numpy()), validation["target"].to_numpy()),
        callbacks=[stop],
        shuffle=False,
        verbose=0,
    )
    return dict(history.history)


@pytest.mark.parametrize(
    ("changes", "stops_early"),
    [
        ({"learning_rate": 0.01, "epochs": 6, "patience": 6}, False),
        ({"learning_rate": 0.1, "epochs": 60, "patience": 2}, True),
        ({"batch_size": 100, "learning_rate": 0.003, "epochs": 5, "class_weights": "none"}, False),
    ],
    ids=["all epochs", "early stop", "smaller last batch"],
)
def test_fit_is_that_of_keras(
    images: pd.DataFrame, one_view: FeatureReader, changes: dict[str, Any], stops_early: bool
) -> None:
    train = TRAIN.model_copy(update={"dropout": 0.0, "batch_size": 40} | changes)
    training, validation = images[:TO_LEARN], images[TO_LEARN:]
    moments = feature_moments(one_view, training["row"].to_numpy())
    ours, theirs = (build_head(*moments, dropout=0.0, classes=4) for _ in range(2))
    theirs.set_weights(ours.get_weights())
    before = ours.get_weights()

    expected = plain_fit(theirs, one_view, training, validation, train)
    log = keras.callbacks.History()
    fitted = fit(ours, one_view, training, validation, train, [log])

    assert fitted.epochs == len(expected["loss"])
    assert fitted.stopped_early == stops_early
    assert fitted.history == log.history
    assert log.history.keys() == expected.keys()
    for name, values in expected.items():
        assert log.history[name] == pytest.approx(values, rel=1e-4), name
    for weights, others in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.allclose(weights, others, rtol=0, atol=1e-4)
    assert np.abs(ours.get_weights()[-2] - before[-2]).max() > 0.01  # something was learnt


class Epoch(NamedTuple):
    """An epoch, an image a row: features and which of their numbers are kept, (images, dim), targets and weights."""

    features: NDArray[np.float32]
    kept: NDArray[np.bool_]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]


def epoch_of(blocks: TrainingBlocks) -> Epoch:
    """Return the next epoch whole."""
    features, kept, targets, weights = zip(*blocks.epoch(), strict=True)
    return Epoch(
        np.concatenate([block.reshape(-1, DIM) for block in features]),
        np.concatenate([block.reshape(-1, DIM) for block in kept]),
        np.concatenate([block.ravel() for block in targets]),
        np.concatenate([block.ravel() for block in weights]),
    )


class TestTrainingBlocks:
    def test_an_epoch_has_each_training_image_once_with_its_target_its_weight_and_one_view(
        self, reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
    ) -> None:
        images, kept, targets, weights = epoch_of(TrainingBlocks(reader, training, TRAIN))
        assert images.shape == kept.shape == (len(training), DIM)
        assert (images.dtype, kept.dtype, targets.dtype, weights.dtype) == (np.float32, bool, np.int32, np.float32)
        rows, views = images[:, 0].astype(int), images[:, 1].astype(int)
        assert sorted(rows) == sorted(training["row"])
        assert np.array_equal(targets, rows % CLASSES)
        assert np.array_equal(images, features[rows, views])
        expected = class_weights(training["target"], CLASSES, "balanced")
        assert np.allclose(weights, [expected[target] for target in targets])

    def test_without_class_weights_all_images_weigh_the_same(
        self, reader: FeatureReader, training: pd.DataFrame
    ) -> None:
        train = TRAIN.model_copy(update={"class_weights": "none"})
        assert (epoch_of(TrainingBlocks(reader, training, train)).weights == 1).all()

    @pytest.mark.parametrize("images", [1, 99, 100, 101, 4096, 4100, 8250])
    def test_blocks_are_of_whole_batches_but_for_the_last(self, images: int) -> None:
        bounds = block_bounds(images, batch_size=100)
        sizes = np.diff(bounds).tolist()
        assert (bounds[0], bounds[-1]) == (0, images)
        assert all(size % 100 == 0 and 0 < size <= TRAINING_IMAGES for size in sizes[:-1])
        assert sizes[-1] % 100 == 0 or sizes[-1] == images % 100

    def test_batches_have_the_batch_size_but_for_the_last(self, reader: FeatureReader, training: pd.DataFrame) -> None:
        blocks = TrainingBlocks(reader, training, TRAIN.model_copy(update={"batch_size": 100}))
        shapes = [targets.shape for _, _, targets, _ in blocks.epoch()]
        assert shapes == [(len(training) // 100, 100), (1, len(training) % 100)]
        assert len(blocks) == 2

    @pytest.mark.parametrize("batch_size", [1, 10_000])
    def test_the_smallest_and_a_too_large_batch_size_give_each_image_once(
        self, reader: FeatureReader, training: pd.DataFrame, batch_size: int
    ) -> None:
        train = TRAIN.model_copy(update={"batch_size": batch_size})
        images = epoch_of(TrainingBlocks(reader, training, train)).features
        assert sorted(images[:, 0].astype(int)) == sorted(training["row"])

    def test_each_epoch_has_another_order_and_other_views_all_equally_often(
        self, reader: FeatureReader, training: pd.DataFrame
    ) -> None:
        blocks = TrainingBlocks(reader, training, TRAIN)
        tables = [pd.DataFrame(epoch_of(blocks).features[:, :2].astype(int), columns=["row", "view"]) for _ in range(3)]
        assert (tables[0]["row"] != tables[1]["row"]).mean() > 0.9
        views = [table.set_index("row")["view"].sort_index() for table in tables]
        error = 4 * np.sqrt(1 / VIEWS * (1 - 1 / VIEWS) / len(training))
        assert abs((views[0] == views[1]).mean() - 1 / VIEWS) < error
        assert abs((views[1] == views[2]).mean() - 1 / VIEWS) < error
        for view in views:
            assert (abs(view.value_counts(normalize=True) - 1 / VIEWS) < error).all()

    @pytest.mark.parametrize("dropout", [0, 0.2, 0.5, 0.999])
    def test_dropout_leaves_out_its_share_of_the_numbers_others_in_each_epoch(
        self, reader: FeatureReader, training: pd.DataFrame, dropout: float
    ) -> None:
        blocks = TrainingBlocks(reader, training, TRAIN.model_copy(update={"dropout": dropout}))
        first, second = epoch_of(blocks).kept, epoch_of(blocks).kept
        error = 4 * np.sqrt(dropout * (1 - dropout) / first.size)
        assert first.mean() == pytest.approx(1 - dropout, abs=error)
        assert (first & second).mean() == pytest.approx((1 - dropout) ** 2, abs=2 * error)

    def test_the_seed_decides_order_views_and_dropout(self, reader: FeatureReader, training: pd.DataFrame) -> None:
        first, again, other = (
            epoch_of(TrainingBlocks(reader, training, TRAIN.model_copy(update={"seed": seed}))) for seed in (1, 1, 2)
        )
        assert np.array_equal(first.features, again.features)
        assert np.array_equal(first.kept, again.kept)
        assert not np.array_equal(first.features, other.features)
        assert not np.array_equal(first.kept, other.kept)


def test_validation_sees_all_views_of_each_image_in_order(
    reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
) -> None:
    blocks = ValidationBlocks(reader, training)
    images, targets = zip(*blocks.epoch(), strict=True)
    assert len(images) == len(blocks) == 2
    assert len(images[0]) == VALIDATION_IMAGES
    assert np.array_equal(np.concatenate(images), features[training["row"]])
    assert np.array_equal(np.concatenate(targets), training["target"])


class TestFeed:
    def test_a_dataset_is_one_epoch_after_the_other(self, reader: FeatureReader, training: pd.DataFrame) -> None:
        feed = Feed(TrainingBlocks(reader, training, TRAIN))
        found = [np.asarray(targets).ravel() for _, _, targets, _ in feed.dataset().take(2 * len(feed))]
        expected = TrainingBlocks(reader, training, TRAIN)
        assert np.array_equal(np.concatenate(found[: len(feed)]), epoch_of(expected).targets)
        assert np.array_equal(np.concatenate(found[len(feed) :]), epoch_of(expected).targets)

    def test_each_iterator_of_a_dataset_begins_at_the_beginning(
        self, reader: FeatureReader, training: pd.DataFrame
    ) -> None:
        dataset = Feed(ValidationBlocks(reader, training)).dataset()
        first, second = (np.asarray(next(iter(dataset))[1]) for _ in range(2))  # each reads further blocks ahead
        assert len(training) > len(first)
        assert np.array_equal(first, training["target"][: len(first)])
        assert np.array_equal(second, first)

    def test_it_keeps_the_error_that_tensorflow_hides(self, tmp_path: Path, training: pd.DataFrame) -> None:
        shrinking = write_feature_folder(tmp_path / "features", np.ones((308, 1, DIM), np.float32))
        feed = Feed(ValidationBlocks(shrinking, training))
        assert feed.error is None
        os.truncate(view_file(tmp_path / "features", 0), 200)
        with pytest.raises(tf.errors.OpError):
            next(iter(feed.dataset()))
        assert isinstance(feed.error, DataError)
        assert "became shorter while it was read" in str(feed.error)


def test_features_that_shrink_in_mid_run_are_one_error(tmp_path: Path) -> None:
    reader = write_feature_folder(tmp_path / "features", np.ones((120, 1, DIM), np.float32))
    ended = []

    class Truncate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            ended.append(epoch)
            os.truncate(view_file(tmp_path / "features", 0), 200)

    images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
    head = build_head(np.zeros(DIM), np.ones(DIM), dropout=0.2, classes=CLASSES)
    with pytest.raises(DataError, match=r"^data/features changed, or cannot be read any more: run dvc repro features$"):
        fit(head, reader, images[:90], images[90:], TRAIN, [Truncate()])
    assert ended


class TestHeadTrainer:
    """The model that learns, by plain gradient descent."""

    @pytest.fixture
    def head(self) -> Any:
        return build_head(np.linspace(2, 4, DIM), np.linspace(0.1, 2, DIM), dropout=0.5, classes=CLASSES)

    @pytest.fixture
    def trainer(self, head: Any) -> Any:
        trainer = HeadTrainer(head)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainer.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
        trainer.optimizer.build(head.trainable_variables)
        return trainer

    def test_it_averages_the_probabilities_of_the_views(
        self, head: Any, trainer: Any, features: NDArray[np.float32]
    ) -> None:
        averaged = np.exp(trainer(features[:50], training=False))
        each = [predict_probabilities(head, features[:50, view]) for view in range(VIEWS)]
        assert np.allclose(averaged, np.mean(each, axis=0), atol=1e-6)
        assert np.abs(averaged - each[0]).max() > 1e-3

    def test_a_block_teaches_what_its_batches_teach_one_by_one(self, head: Any, trainer: Any) -> None:
        random = np.random.default_rng(4)
        features = random.standard_normal((5, 8, DIM)).astype(np.float32)
        kept = random.random((5, 8, DIM)) < 0.5
        targets = random.integers(CLASSES, size=(5, 8)).astype(np.int32)
        weights = random.random((5, 8)).astype(np.float32)

        mean, variance = np.linspace(2, 4, DIM), np.linspace(0.1, 2, DIM)
        plain = keras.Sequential([keras.Input((DIM,)), keras.layers.Dense(CLASSES, activation="softmax")])
        plain.set_weights(head.layers[-1].get_weights())
        plain.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
        batches = zip(2 * kept * (features - mean) / np.sqrt(variance), targets, weights, strict=True)
        expected = pd.DataFrame([plain.train_on_batch(*batch, return_dict=True) for batch in batches]).mean()

        block = tf.data.Dataset.from_tensors((features, kept, targets, weights))
        learnt = trainer.fit(block, shuffle=False, verbose=0).history
        for weight, other in zip(head.layers[-1].get_weights(), plain.get_weights(), strict=True):
            assert np.allclose(weight, other, atol=1e-5)
        assert {name: values[-1] for name, values in learnt.items()} == pytest.approx(expected.to_dict(), rel=1e-4)
