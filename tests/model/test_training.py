"""Training the head, and predicting with it: moments, and what is learnt where one feature tells the classes apart."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.fast_fit import Fitted
from dermoscopy.model.head import build_head, predict_probabilities
from dermoscopy.model.training import IMAGES_AT_A_TIME, feature_moments, predict_views, train_head
from tests.model.conftest import CLASSES, DIM, IMAGES, VIEWS
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS

HELD_OUT = np.arange(90, 120)


def test_moments_are_mean_and_variance_over_all_views(
    reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
) -> None:
    rows = training["row"].to_numpy()
    assert len(rows) > IMAGES_AT_A_TIME
    mean, variance = feature_moments(reader, rows)
    values = features[rows].reshape(-1, DIM).astype(np.float64)
    alive = np.arange(DIM) != 2
    assert np.allclose(mean, values.mean(axis=0), rtol=1e-12)
    assert np.allclose(variance[alive], values.var(axis=0)[alive], rtol=1e-9)


def test_a_dead_feature_has_variance_1(reader: FeatureReader, training: pd.DataFrame) -> None:
    mean, variance = feature_moments(reader, training["row"].to_numpy())
    assert mean[2] == pytest.approx(0.1)
    assert variance[2] == 1


def test_features_of_a_tiny_scale_are_not_taken_for_dead(tmp_path: Path) -> None:
    tiny = (2e-3 * np.random.default_rng(0).random((50, 1, 2), np.float32)) ** 2
    _, variance = feature_moments(write_feature_folder(tmp_path / "features", tiny), np.arange(50))
    assert np.allclose(variance, tiny[:, 0].astype(np.float64).var(axis=0), rtol=1e-9)


def test_predictions_are_the_head_on_every_view(reader: FeatureReader, features: NDArray[np.float32]) -> None:
    head = build_head(np.linspace(2, 4, DIM), np.linspace(0.1, 2, DIM), dropout=0.5, classes=CLASSES)
    rows = np.random.default_rng(2).permutation(IMAGES)
    probabilities = predict_views(head, reader, rows)
    assert probabilities.shape == (IMAGES, VIEWS, CLASSES)
    for view in range(VIEWS):
        expected = predict_probabilities(head, features[rows, view])
        assert np.allclose(probabilities[:, view], expected, atol=1e-6)


@pytest.fixture(scope="module")
def separable(tmp_path_factory: pytest.TempPathFactory) -> FeatureReader:
    values = np.random.default_rng(3).normal(size=(120, 2, DIM)).astype(np.float32)
    values[..., 0] += 6 * (np.arange(120) % CLASSES)[:, None]
    return write_feature_folder(tmp_path_factory.mktemp("separable") / "features", values)


def train_on(features: FeatureReader, **changes: Any) -> tuple[Any, Fitted]:
    """Return the trained head and how its training went; 90 images train, 30 validate."""
    images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
    keras.utils.set_random_seed(1)
    settings = {"dropout": 0.2, "learning_rate": 0.05, "batch_size": 30, "epochs": 12}
    train = PARAMS.train.model_copy(update=settings | changes)
    return train_head(features, images[:90], images[90:], CLASSES, train)


def test_training_learns_what_can_be_learnt(separable: FeatureReader) -> None:
    head, fitted = train_on(separable)
    assert fitted.epochs == 12
    predicted = predict_views(head, separable, HELD_OUT).mean(axis=1).argmax(axis=1)
    assert (predicted == HELD_OUT % CLASSES).mean() > 0.9


def test_the_same_seed_gives_the_same_head(separable: FeatureReader) -> None:
    (first, _), (again, _) = (train_on(separable, epochs=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))


def test_training_stops_early_and_keeps_the_weights_of_the_best_mean_over_views(separable: FeatureReader) -> None:
    # with such a learning rate the loss soon gets worse
    head, fitted = train_on(separable, learning_rate=1.0, epochs=200, patience=3)
    losses = fitted.history["val_loss"]
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
