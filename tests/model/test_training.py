"""Training the head: it learns what Keras' own fit learns from the same batches, and sees every image once an epoch."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight
from threadpoolctl import threadpool_info, threadpool_limits

from dermoscopy.features import store
from dermoscopy.features.store import FeatureReader, view_file
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.head import Head
from dermoscopy.model.keras_head import to_keras
from dermoscopy.model.training import (
    IMAGES_AT_A_TIME,
    Fitted,
    Learner,
    feature_moments,
    predict_views,
    train_head,
)
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Train
from tests.model.conftest import CLASSES, DIM, IMAGES, VIEWS
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS

HELD_OUT = np.arange(90, 120)
TO_LEARN, TO_STOP = 520, 300


def params(**changes: Any) -> Train:
    """Return the params of a training, with some changes."""
    return PARAMS.train.model_copy(update={"batch_size": 32, "seed": 1} | changes)


class TestMoments:
    def test_they_are_mean_and_variance_over_all_views(
        self, reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
    ) -> None:
        rows = training["row"].to_numpy()
        assert len(rows) > IMAGES_AT_A_TIME
        mean, variance = feature_moments(reader, rows)
        values = features[rows].reshape(-1, DIM).astype(np.float64)
        alive = np.arange(DIM) != 2
        assert np.allclose(mean, values.mean(axis=0), rtol=1e-12)
        assert np.allclose(variance[alive], values.var(axis=0)[alive], rtol=1e-9)

    def test_a_dead_feature_has_variance_1(self, reader: FeatureReader, training: pd.DataFrame) -> None:
        mean, variance = feature_moments(reader, training["row"].to_numpy())
        assert mean[2] == pytest.approx(0.1)
        assert variance[2] == 1

    @pytest.mark.parametrize("scale", [1e-6, 1e3], ids=["tiny", "large"])
    @pytest.mark.parametrize("away", [0, 300], ids=["around zero", "far from zero"])
    def test_of_any_scale_they_are_exact_and_nothing_is_taken_for_dead(
        self, tmp_path: Path, scale: float, away: float
    ) -> None:
        values = (scale * (away + np.random.default_rng(0).random((50, 1, 2)) ** 2)).astype(np.float32)
        _, variance = feature_moments(write_feature_folder(tmp_path / "features", values), np.arange(50))
        assert np.allclose(variance, values[:, 0].astype(np.float64).var(axis=0), rtol=1e-9)


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


class Noted(FeatureReader):
    """Features that note which rows are asked for at random views, as each epoch does."""

    def __init__(self, features: FeatureReader) -> None:
        self._features = features
        self.info = features.info
        self.batches: list[NDArray[np.intp]] = []

    def view(self, view: int, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return self._features.view(view, rows)

    def random_views(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        self.batches.append(rows)
        return super().random_views(rows, views)


@pytest.mark.parametrize(
    ("changes", "stops_early"),
    [
        ({"learning_rate": 0.01, "epochs": 6, "patience": 6}, False),
        ({"learning_rate": 0.1, "epochs": 60, "patience": 2}, True),
        ({"batch_size": 100, "learning_rate": 0.003, "epochs": 5, "class_weights": "none"}, False),
    ],
    ids=["all epochs", "early stop", "smaller last batch"],
)
def test_it_learns_what_keras_learns_from_the_same_batches(
    images: pd.DataFrame, one_view: FeatureReader, changes: dict[str, Any], stops_early: bool
) -> None:
    train = params(**{"dropout": 0.0, "batch_size": 40} | changes)
    training, validation = images[:TO_LEARN], images[TO_LEARN:]
    features = Noted(one_view)
    begun = Learner(features, training, 4, train).head
    head, fitted = train_head(features, training, validation, 4, train)

    plain = to_keras(begun)
    optimizer = keras.optimizers.Adam(train.learning_rate)
    plain.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    weights = class_weights(training["target"], 4, train.class_weights)
    targets = images["target"].to_numpy()
    seen = iter(features.batches)
    history = plain.fit(
        ((features.view(0, rows), targets[rows], weights[targets[rows]]) for rows in seen),
        steps_per_epoch=-(-TO_LEARN // train.batch_size),
        epochs=train.epochs,
        validation_data=(features.view(0, validation["row"].to_numpy()), validation["target"].to_numpy()),
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=train.patience, restore_best_weights=True)],
        shuffle=False,
        verbose=0,
    ).history

    assert next(seen, None) is None
    assert fitted.stopped_early == stops_early
    names = {
        "train/loss": "loss",
        "train/accuracy": "accuracy",
        "eval/loss": "val_loss",
        "eval/accuracy": "val_accuracy",
    }
    for metric, of_keras in names.items():
        assert [values[metric] for values in fitted.history] == pytest.approx(history[of_keras], rel=1e-4), metric
    for ours, theirs in zip((head.kernel, head.bias), plain.layers[-1].get_weights(), strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-4)
    assert np.abs(head.kernel - begun.kernel).max() > 0.01  # something was learnt


def test_a_step_with_dropout_is_that_of_keras_on_what_is_kept(images: pd.DataFrame, one_view: FeatureReader) -> None:
    training = images[:32]
    train = params(dropout=0.4, batch_size=32, learning_rate=0.01)
    learner, twin = (Learner(one_view, training, 4, train) for _ in range(2))
    begun = learner.head
    loss, accuracy = learner.learn()

    random = twin._random  # draws what the other has drawn
    order, _ = random.permutation(32), random.integers(1, size=32)
    chances = random.bit_generator.random_raw(32 * 24 // 4).view(np.uint16).reshape(32, 24)
    kept = chances >= round(0.4 * 2**16)
    assert 0.5 < kept.mean() < 0.7
    standardised = (one_view.view(0, training["row"].to_numpy()[order]) - begun.mean) / begun.deviation
    targets = training["target"].to_numpy()[order]
    weights = class_weights(training["target"], 4, "balanced")[targets]
    plain = keras.Sequential([keras.Input((24,)), keras.layers.Dense(4, activation="softmax")])
    plain.set_weights([begun.kernel, begun.bias])
    plain.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    expected = plain.train_on_batch(standardised * kept / 0.6, targets, weights, return_dict=True)

    assert (loss, accuracy) == (pytest.approx(expected["loss"], rel=1e-5), pytest.approx(expected["accuracy"]))
    for ours, theirs in zip((learner.head.kernel, learner.head.bias), plain.get_weights(), strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-5)


class TestAnEpoch:
    @pytest.mark.parametrize("batch_size", [1, 100, 10_000])
    def test_it_has_each_training_image_once(
        self, reader: FeatureReader, training: pd.DataFrame, batch_size: int
    ) -> None:
        features = Noted(reader)
        learner = Learner(features, training, CLASSES, params(batch_size=batch_size))
        epochs = []
        for _ in range(2):
            features.batches.clear()
            learner.learn()
            sizes = {len(rows) for rows in features.batches[:-1]}
            assert sizes <= {batch_size}
            epochs.append(np.concatenate(features.batches))
        assert all(sorted(rows) == sorted(training["row"]) for rows in epochs)
        assert not np.array_equal(epochs[0], epochs[1])

    def test_it_has_every_view_about_as_often(self, reader: FeatureReader, training: pd.DataFrame) -> None:
        drawn: list[NDArray[np.intp]] = []

        class Views(Noted):
            def random_views(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
                drawn.append(views)
                return super().random_views(rows, views)

        learner = Learner(Views(reader), training, CLASSES, params())
        for _ in range(10):
            learner.learn()
        shares = np.bincount(np.concatenate(drawn)) / 10 / len(training)
        assert shares == pytest.approx([1 / VIEWS] * VIEWS, abs=0.05)


@pytest.mark.parametrize("target", [[0, 0, 0, 1, 1, 2], [5, 5, 1], [3]])
def test_class_weights_are_those_of_scikit_learn(target: list[int]) -> None:
    present = np.unique(target)
    weights = class_weights(target, 6, "balanced")
    assert np.allclose(weights[present], compute_class_weight("balanced", classes=present, y=target))
    assert (np.delete(weights, present) == 1).all()
    assert (class_weights(target, 6, "none") == 1).all()


def test_predictions_are_the_head_on_every_view(reader: FeatureReader, features: NDArray[np.float32]) -> None:
    mean, deviation = np.linspace(2, 4, DIM, dtype=np.float32), np.linspace(0.3, 1.4, DIM, dtype=np.float32)
    kernel = np.random.default_rng(4).normal(size=(DIM, CLASSES)).astype(np.float32)
    head = Head(mean, deviation, kernel, np.zeros(CLASSES, np.float32))
    rows = np.random.default_rng(2).permutation(IMAGES)
    probabilities = predict_views(head, reader, rows)
    assert probabilities.shape == (IMAGES, VIEWS, CLASSES)
    assert np.allclose(probabilities, head.probabilities(features[rows]), atol=1e-6)


@pytest.fixture(scope="module")
def separable(tmp_path_factory: pytest.TempPathFactory) -> FeatureReader:
    values = np.random.default_rng(3).normal(size=(120, 2, DIM)).astype(np.float32)
    values[..., 0] += 6 * (np.arange(120) % CLASSES)[:, None]
    return write_feature_folder(tmp_path_factory.mktemp("separable") / "features", values)


def train_on(features: FeatureReader, **changes: Any) -> tuple[Head, Fitted]:
    """Return the trained head and how its training went; 90 images train, 30 validate."""
    images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
    settings = {"dropout": 0.2, "learning_rate": 0.05, "batch_size": 30, "epochs": 12}
    return train_head(features, images[:90], images[90:], CLASSES, params(**settings | changes))


def test_training_learns_what_can_be_learnt(separable: FeatureReader) -> None:
    head, fitted = train_on(separable)
    assert fitted.epochs == 12
    predicted = predict_views(head, separable, HELD_OUT).mean(axis=1).argmax(axis=1)
    assert (predicted == HELD_OUT % CLASSES).mean() > 0.9


def test_the_same_seed_gives_the_same_head_and_another_another(separable: FeatureReader) -> None:
    first, again, other = (train_on(separable, epochs=3, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.kernel, again.kernel)
    assert np.array_equal(first.bias, again.bias)
    assert not np.allclose(first.kernel, other.kernel, atol=1e-2)


def test_it_takes_one_thread(separable: FeatureReader) -> None:
    images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
    found: list[int] = []

    def note(metrics: dict[str, float]) -> None:
        found.extend(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas")

    with threadpool_limits(2, "blas"):
        train_head(separable, images[:90], images[90:], CLASSES, params(epochs=1), note)
    assert set(found) == {1}


def test_features_that_are_read_when_they_are_asked_for_teach_the_same(
    separable: FeatureReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = train_on(separable, epochs=3)
    monkeypatch.setattr(store, "HELD", 0)
    values = np.stack([separable.view(view, np.arange(120)) for view in range(2)], axis=1)
    head, _ = train_on(write_feature_folder(tmp_path / "features", values), epochs=3)
    assert np.array_equal(head.kernel, expected.kernel)


def test_features_that_shrink_in_mid_run_are_one_error(
    separable: FeatureReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "HELD", 0)
    reader = write_feature_folder(tmp_path / "features", np.ones((120, 1, DIM), np.float32))
    images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
    ended = []

    def truncate(metrics: dict[str, float]) -> None:
        ended.append(metrics)
        os.truncate(view_file(tmp_path / "features", 0), 200)

    with pytest.raises(DataError, match=r"view_000.npy became shorter while it was read: run dvc repro features$"):
        train_head(reader, images[:90], images[90:], CLASSES, params(), truncate)
    assert len(ended) == 1


def test_training_stops_early_and_keeps_the_weights_of_the_best_mean_over_views(separable: FeatureReader) -> None:
    # with such a learning rate the loss soon gets worse
    head, fitted = train_on(separable, learning_rate=1.0, epochs=200, patience=3)
    losses = [metrics["eval/loss"] for metrics in fitted.history]
    assert fitted.epochs == len(losses) < 200
    assert np.argmin(losses) == fitted.kept == len(losses) - 1 - 3
    probabilities = predict_views(head, separable, HELD_OUT).mean(axis=1)
    of_truth = probabilities[np.arange(30), HELD_OUT % CLASSES]
    assert -np.log(of_truth).mean() == pytest.approx(min(losses), rel=1e-3)


def test_only_early_stopping_counts_as_stopped_early_though_it_be_at_the_last_allowed_epoch(
    separable: FeatureReader,
) -> None:
    settings = {"learning_rate": 1.0, "patience": 3}
    _, fitted = train_on(separable, epochs=200, **settings)
    assert fitted.stopped_early
    _, at_the_last = train_on(separable, epochs=fitted.epochs, **settings)
    assert (at_the_last.epochs, at_the_last.stopped_early) == (fitted.epochs, True)
    _, before = train_on(separable, epochs=fitted.epochs - 1, **settings)
    assert (before.epochs, before.stopped_early) == (fitted.epochs - 1, False)
