"""Training: weights, moments, batches and the head, each against a formula or against numpy."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.features.store import FeatureReader, view_file
from dermoscopy.model.head import (
    HeadInfo,
    build_head,
    load_head,
    predict_probabilities,
    require_same_backbone,
)
from dermoscopy.model.training import (
    BLOCK,
    TRAINING_BLOCK,
    all_view_blocks,
    as_dataset,
    block_bounds,
    class_weights,
    feature_moments,
    fit,
    one_view_blocks,
    predict,
    tabulate,
)
from dermoscopy.runtime.errors import DataError
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS

IMAGES, VIEWS, DIM, CLASSES = BLOCK + 52, 3, 6, 3  # more images than are in memory at a time
TRAIN = PARAMS.train.model_copy(update={"batch_size": 32, "seed": 1})


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """Features of which each names its image and view: image number and view number come first."""
    values = np.random.default_rng(0).normal(3, 0.5, (IMAGES, VIEWS, DIM)).astype(np.float32)
    values[..., 0] = np.arange(IMAGES)[:, None]
    values[..., 1] = np.arange(VIEWS)
    values[..., 2] = 0.1  # a dead feature
    return values


@pytest.fixture(scope="module")
def reader(features: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> FeatureReader:
    return write_feature_folder(tmp_path_factory.mktemp("train") / "features", features)


@pytest.fixture
def training() -> pd.DataFrame:
    """All images but the first 30, in an order of their own; the target follows from the row."""
    rows = np.random.default_rng(1).permutation(np.arange(30, IMAGES))
    return pd.DataFrame({"row": rows, "target": (rows % CLASSES).astype(np.int8)})


@pytest.fixture
def head(keras: Any) -> Any:
    """A head whose weights are those that training begins with."""
    mean, variance = np.linspace(2, 4, DIM), np.linspace(0.1, 2, DIM)
    return build_head(mean, variance, dropout=0.5, classes=CLASSES)


@pytest.fixture
def trainer(keras: Any, head: Any) -> Any:
    """The head in training, by plain gradient descent."""
    from dermoscopy.model.fast_fit import HeadTrainer  # TensorFlow, which the fixture keras has started

    trainer = HeadTrainer(head)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    trainer.optimizer.build(head.trainable_variables)
    return trainer


class Epoch(NamedTuple):
    """An epoch, an image a row: features and which of their numbers are kept, (images, dim), targets and weights."""

    features: NDArray[np.float32]
    kept: NDArray[np.bool_]
    targets: NDArray[np.int32]
    weights: NDArray[np.float32]


def epoch_of(blocks: Any) -> Epoch:
    """Return one epoch whole."""
    features, kept, targets, weights = zip(*blocks(), strict=True)
    return Epoch(
        np.concatenate([block.reshape(-1, DIM) for block in features]),
        np.concatenate([block.reshape(-1, DIM) for block in kept]),
        np.concatenate([block.ravel() for block in targets]),
        np.concatenate([block.ravel() for block in weights]),
    )


def test_class_weights_are_images_by_classes_times_images_of_the_class() -> None:
    weights = class_weights(pd.Series([0, 0, 0, 0, 0, 0, 1, 1, 3]))
    assert weights == pytest.approx({0: 9 / (3 * 6), 1: 9 / (3 * 2), 3: 9 / (3 * 1)})


def test_with_class_weights_all_classes_weigh_the_same() -> None:
    target = pd.Series(np.random.default_rng(0).choice(7, 500, p=[0.67, 0.11, 0.11, 0.05, 0.03, 0.02, 0.01]))
    totals = target.map(class_weights(target)).groupby(target).sum()
    assert np.allclose(totals, len(target) / target.nunique())


def test_moments_are_mean_and_variance_over_all_views(
    reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
) -> None:
    rows = training["row"].to_numpy()
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


def test_an_epoch_has_each_training_image_once_with_its_target_its_weight_and_one_view(
    reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
) -> None:
    images, kept, targets, weights = epoch_of(one_view_blocks(reader, training, TRAIN))
    assert images.shape == kept.shape == (len(training), DIM)
    assert (images.dtype, kept.dtype, targets.dtype, weights.dtype) == (np.float32, bool, np.int32, np.float32)
    rows, views = images[:, 0].astype(int), images[:, 1].astype(int)
    assert sorted(rows) == sorted(training["row"])
    assert np.array_equal(targets, rows % CLASSES)
    assert np.array_equal(images, features[rows, views])
    expected = class_weights(training["target"])
    assert np.allclose(weights, [expected[target] for target in targets])


def test_without_class_weights_all_images_weigh_the_same(reader: FeatureReader, training: pd.DataFrame) -> None:
    train = TRAIN.model_copy(update={"class_weights": "none"})
    assert (epoch_of(one_view_blocks(reader, training, train)).weights == 1).all()


@pytest.mark.parametrize("images", [1, 99, 100, 101, 1024, 1100, 2050])
def test_blocks_are_of_whole_batches_but_for_the_last(images: int) -> None:
    bounds = block_bounds(images, batch_size=100)
    sizes = np.diff(bounds).tolist()
    assert (bounds[0], bounds[-1]) == (0, images)
    assert all(size % 100 == 0 and 0 < size <= TRAINING_BLOCK for size in sizes[:-1])
    assert sizes[-1] % 100 == 0 or sizes[-1] == images % 100


def test_batches_have_the_batch_size_but_for_the_last(reader: FeatureReader, training: pd.DataFrame) -> None:
    train = TRAIN.model_copy(update={"batch_size": 100})
    shapes = [targets.shape for _, _, targets, _ in one_view_blocks(reader, training, train)()]
    assert shapes == [(len(training) // 100, 100), (1, len(training) % 100)]


@pytest.mark.parametrize("batch_size", [1, 10_000])
def test_the_smallest_and_a_too_large_batch_size_give_each_image_once(
    reader: FeatureReader, training: pd.DataFrame, batch_size: int
) -> None:
    train = TRAIN.model_copy(update={"batch_size": batch_size})
    images = epoch_of(one_view_blocks(reader, training, train)).features
    assert sorted(images[:, 0].astype(int)) == sorted(training["row"])


def test_each_epoch_has_another_order_and_other_views_all_equally_often(
    reader: FeatureReader, training: pd.DataFrame
) -> None:
    epochs = one_view_blocks(reader, training, TRAIN)
    tables = [pd.DataFrame(epoch_of(epochs).features[:, :2].astype(int), columns=["row", "view"]) for _ in range(3)]
    assert (tables[0]["row"] != tables[1]["row"]).mean() > 0.9
    views = [table.set_index("row")["view"].sort_index() for table in tables]
    error = 4 * np.sqrt(1 / VIEWS * (1 - 1 / VIEWS) / len(training))
    assert abs((views[0] == views[1]).mean() - 1 / VIEWS) < error
    assert abs((views[1] == views[2]).mean() - 1 / VIEWS) < error
    for view in views:
        assert (abs(view.value_counts(normalize=True) - 1 / VIEWS) < error).all()


@pytest.mark.parametrize("dropout", [0, 0.2, 0.5, 0.999])
def test_dropout_leaves_out_its_share_of_the_numbers_others_in_each_epoch(
    reader: FeatureReader, training: pd.DataFrame, dropout: float
) -> None:
    epochs = one_view_blocks(reader, training, TRAIN.model_copy(update={"dropout": dropout}))
    first, second = epoch_of(epochs).kept, epoch_of(epochs).kept
    error = 4 * np.sqrt(dropout * (1 - dropout) / first.size)
    assert first.mean() == pytest.approx(1 - dropout, abs=error)
    assert (first & second).mean() == pytest.approx((1 - dropout) ** 2, abs=2 * error)


def test_the_seed_decides_order_views_and_dropout(reader: FeatureReader, training: pd.DataFrame) -> None:
    first, again, other = (
        epoch_of(one_view_blocks(reader, training, TRAIN.model_copy(update={"seed": seed}))) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.kept, again.kept)
    assert not np.array_equal(first.features, other.features)
    assert not np.array_equal(first.kept, other.kept)


def test_validation_sees_all_views_of_each_image_in_order(
    reader: FeatureReader, features: NDArray[np.float32], training: pd.DataFrame
) -> None:
    images, targets = zip(*all_view_blocks(reader, training)(), strict=True)
    assert np.array_equal(np.concatenate(images), features[training["row"]])
    assert np.array_equal(np.concatenate(targets), training["target"])


def test_a_dataset_is_one_epoch_after_the_other(keras: Any, reader: FeatureReader, training: pd.DataFrame) -> None:
    del keras  # started: the dataset is TensorFlow's
    blocks = len(block_bounds(len(training), TRAIN.batch_size)) - 1
    block, batches = (None, None, DIM), (None, None)
    arrays = ("float32", block), ("bool", block), ("int32", batches), ("float32", batches)
    dataset = as_dataset(one_view_blocks(reader, training, TRAIN), *arrays).take(2 * blocks)
    found = [np.asarray(targets).ravel() for _, _, targets, _ in dataset]
    expected = one_view_blocks(reader, training, TRAIN)
    assert np.array_equal(np.concatenate(found[:blocks]), epoch_of(expected).targets)
    assert np.array_equal(np.concatenate(found[blocks:]), epoch_of(expected).targets)


def test_each_iterator_of_a_dataset_begins_at_the_beginning(
    keras: Any, reader: FeatureReader, training: pd.DataFrame
) -> None:
    del keras  # started: the dataset is TensorFlow's
    dataset = as_dataset(all_view_blocks(reader, training), ("float32", (None, None, DIM)), ("int32", (None,)))
    first, second = (np.asarray(next(iter(dataset))[1]) for _ in range(2))  # each reads further blocks ahead
    assert len(training) > len(first)
    assert np.array_equal(first, training["target"][: len(first)])
    assert np.array_equal(second, first)


def test_the_head_normalizes_then_gives_probabilities(keras: Any, features: NDArray[np.float32]) -> None:
    mean, variance = features.reshape(-1, DIM).mean(axis=0), features.reshape(-1, DIM).var(axis=0) + 0.1
    head = build_head(mean.astype(np.float64), variance.astype(np.float64), dropout=0.5, classes=CLASSES)
    kernel, bias = head.layers[-1].get_weights()
    logits = (features[:50, 0] - mean) / np.sqrt(variance) @ kernel + bias
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(predict_probabilities(head, features[:50, 0]), expected, atol=1e-5)


def test_a_trainer_averages_the_probabilities_of_the_views(
    keras: Any, head: Any, trainer: Any, features: NDArray[np.float32]
) -> None:
    averaged = np.exp(trainer(features[:50], training=False))
    each = [predict_probabilities(head, features[:50, view]) for view in range(VIEWS)]
    assert np.allclose(averaged, np.mean(each, axis=0), atol=1e-6)
    assert np.abs(averaged - each[0]).max() > 1e-3


def test_a_block_teaches_what_its_batches_teach_one_by_one(keras: Any, head: Any, trainer: Any) -> None:
    import tensorflow as tf

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

    learnt = trainer.fit(
        tf.data.Dataset.from_tensors((features, kept, targets, weights)), shuffle=False, verbose=0
    ).history
    for weight, other in zip(head.layers[-1].get_weights(), plain.get_weights(), strict=True):
        assert np.allclose(weight, other, atol=1e-5)
    assert {name: values[-1] for name, values in learnt.items()} == pytest.approx(expected.to_dict(), rel=1e-4)


def test_predictions_are_the_head_on_every_view(
    keras: Any, head: Any, reader: FeatureReader, features: NDArray[np.float32]
) -> None:
    rows = np.random.default_rng(2).permutation(IMAGES)
    probabilities = predict(keras, head, reader, rows)
    assert probabilities.shape == (IMAGES, VIEWS, CLASSES)
    for view in range(VIEWS):
        expected = predict_probabilities(head, features[rows, view])
        assert np.allclose(probabilities[:, view], expected, atol=1e-6)


def test_a_row_of_predictions_has_the_class_of_the_highest_probability() -> None:
    images = pd.DataFrame(
        {"image_id": ["a", "b"], "label": ["mel", "nv"], "part": ["test", "validation"], "row": [5, 2]}, index=[7, 3]
    )
    table = tabulate(images, ["bkl", "mel", "nv"], np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], np.float32))
    assert list(table.columns) == ["image_id", "part", "label", "predicted", "p_bkl", "p_mel", "p_nv"]
    assert table.iloc[:, :4].to_numpy().tolist() == [["a", "test", "mel", "nv"], ["b", "validation", "nv", "bkl"]]
    assert np.array_equal(table.iloc[:, 4:], np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], np.float32))


class TestFit:
    """A real training on features of which one tells the classes apart."""

    @pytest.fixture
    def separable(self, tmp_path: Path) -> FeatureReader:
        values = np.random.default_rng(3).normal(size=(120, 2, DIM)).astype(np.float32)
        values[..., 0] += 6 * (np.arange(120) % CLASSES)[:, None]
        return write_feature_folder(tmp_path / "features", values)

    def train(self, keras: Any, reader: FeatureReader, **changes: Any) -> tuple[Any, list[float]]:
        """Return the trained head and the validation loss of each epoch; 90 images train, 30 validate."""
        images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
        keras.utils.set_random_seed(1)
        head = build_head(*feature_moments(reader, np.arange(90)), dropout=0.2, classes=CLASSES)
        train = TRAIN.model_copy(update={"learning_rate": 0.05, "batch_size": 30, "epochs": 12} | changes)
        log = keras.callbacks.History()
        epochs = fit(keras, head, reader, images[:90], images[90:], train, [log])
        assert epochs == len(log.history["val_loss"])
        return head, log.history["val_loss"]

    def test_training_learns_what_can_be_learnt(self, keras: Any, separable: FeatureReader) -> None:
        head, losses = self.train(keras, separable)
        assert len(losses) == 12
        predicted = predict(keras, head, separable, np.arange(90, 120)).mean(axis=1).argmax(axis=1)
        assert (predicted == np.arange(90, 120) % CLASSES).mean() > 0.9

    def test_the_same_seed_gives_the_same_head(self, keras: Any, separable: FeatureReader) -> None:
        (first, _), (again, _) = (self.train(keras, separable, epochs=3) for _ in range(2))
        assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))

    def test_features_that_shrink_in_mid_run_are_one_error(self, keras: Any, tmp_path: Path) -> None:
        reader = write_feature_folder(tmp_path / "features", np.ones((120, 1, DIM), np.float32))

        class Truncate(keras.callbacks.Callback):
            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                os.truncate(view_file(tmp_path / "features", 0), 200)

        images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % CLASSES})
        head = build_head(np.zeros(DIM), np.ones(DIM), dropout=0.2, classes=CLASSES)
        with pytest.raises(DataError, match="run dvc repro features"):
            fit(keras, head, reader, images[:90], images[90:], TRAIN, [Truncate()])

    def test_training_stops_early_and_keeps_the_best_weights(self, keras: Any, separable: FeatureReader) -> None:
        # with such a learning rate the loss soon gets worse
        head, losses = self.train(keras, separable, learning_rate=1.0, epochs=200, patience=3)
        assert len(losses) < 200
        assert np.argmin(losses) == len(losses) - 1 - 3
        probabilities = predict(keras, head, separable, np.arange(90, 120)).mean(axis=1)
        of_truth = probabilities[np.arange(30), np.arange(90, 120) % CLASSES]
        assert -np.log(of_truth).mean() == pytest.approx(min(losses), rel=1e-3)


@pytest.fixture
def info() -> HeadInfo:
    return HeadInfo(classes=["bkl", "mel", "nv"], backbone="0" * 64, augmentation=PARAMS.augmentation)


def test_a_head_that_is_saved_and_loaded_in_safe_mode_gives_the_same_output(
    keras: Any, head: Any, info: HeadInfo, features: NDArray[np.float32], tmp_path: Path
) -> None:
    head.save(tmp_path / "head.keras")
    (tmp_path / "head.json").write_text(info.model_dump_json(), encoding="utf-8")
    loaded, loaded_info = load_head(tmp_path / "head.keras", tmp_path / "head.json")
    assert loaded_info == info
    before, after = (predict_probabilities(model, features[:50, 0]) for model in (head, loaded))
    assert np.array_equal(before, after)


@pytest.mark.parametrize("spoilt", ["head.keras", "head.json"])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 no model"], ids=["missing", "empty", "damaged"])
def test_a_head_that_cannot_be_read_says_what_makes_one(
    keras: Any, head: Any, info: HeadInfo, tmp_path: Path, spoilt: str, content: bytes | None
) -> None:
    head.save(tmp_path / "head.keras")
    (tmp_path / "head.json").write_text(info.model_dump_json(), encoding="utf-8")
    (tmp_path / spoilt).unlink()
    if content is not None:
        (tmp_path / spoilt).write_bytes(content)
    with pytest.raises(DataError, match="run dvc repro train"):
        load_head(tmp_path / "head.keras", tmp_path / "head.json")


def test_a_truncated_head_says_what_makes_one(keras: Any, head: Any, info: HeadInfo, tmp_path: Path) -> None:
    head.save(tmp_path / "head.keras")
    (tmp_path / "head.json").write_text(info.model_dump_json(), encoding="utf-8")
    content = (tmp_path / "head.keras").read_bytes()
    (tmp_path / "head.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="run dvc repro train"):
        load_head(tmp_path / "head.keras", tmp_path / "head.json")


def test_a_head_of_another_backbone_is_refused(info: HeadInfo) -> None:
    same = BackboneInfo(name="MobileNetV2", image_size=64, dim=DIM, fingerprint=info.backbone, files={})
    require_same_backbone(info, same)
    with pytest.raises(DataError, match="another backbone"):
        require_same_backbone(info, same.model_copy(update={"fingerprint": "1" * 64}))
