"""Training the head on cached features: moments, batches, the fit itself, and predictions."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.features import FeatureReader
from stages.common.heads import average_views, build_head, predict_probabilities
from stages.common.params import Train

Batches = Iterator[tuple[NDArray[np.float32], NDArray[np.int32]]]

# Images in memory at a time, all views of each: 8 MB with five views of 1,536 numbers.
BLOCK = 256


def train_head(
    keras: Any,
    features: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    classes: int,
    train: Train,
    callbacks: Sequence[Any] = (),
) -> tuple[Any, int]:
    """Build a head for `classes` classes and train it; see `fit`, whose arguments these are.

    Returns:
        The head, with the best weights, and how many epochs were run.
    """
    mean, variance = feature_moments(features, training["row"].to_numpy())
    head = build_head(keras, mean, variance, train.dropout, classes)
    return head, fit(keras, average_views(keras, head), features, training, validation, train, callbacks)


def feature_moments(features: FeatureReader, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance, (dim,) each, over all views of the images in `rows`.

    scikit-learn's StandardScaler gives a feature that never changes the variance 1, so that it stays finite.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    for view in range(features.info.views):
        for start in range(0, len(rows), BLOCK):
            scaler.partial_fit(features.view(view, rows[start : start + BLOCK]).astype(np.float64))
    return scaler.mean_, scaler.scale_**2


def fit(
    keras: Any,
    model: Any,
    features: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    train: Train,
    callbacks: Sequence[Any] = (),
) -> int:
    """Train until the validation loss, of probabilities averaged over views, stops falling; keep the best weights.

    Args:
        keras: the module, started.
        model: the head with its views averaged.
        features: of all images.
        training: `row` and `target` of the images to train on.
        validation: the same of the images that decide when to stop.
        train: the params.
        callbacks: Keras' callbacks to call beside early stopping.

    Returns:
        How many epochs were run.
    """
    model.compile(
        optimizer=keras.optimizers.Adam(train.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics=["accuracy"],
        steps_per_execution=32,  # a step is so small that a call of the compiled function each costs as much again
    )
    history = model.fit(
        as_dataset(
            one_view_batches(features, training, train), ceil(len(training) / train.batch_size), features.info.dim
        ),
        validation_data=as_dataset(
            all_view_batches(features, validation), ceil(len(validation) / BLOCK), features.info.dim
        ),
        epochs=train.epochs,
        shuffle=False,
        class_weight=class_weights(training["target"]) if train.class_weights == "balanced" else None,
        callbacks=[
            keras.callbacks.EarlyStopping("val_loss", patience=train.patience, restore_best_weights=True),
            *callbacks,
        ],
        verbose=0,
    )
    return len(history.epoch)


def class_weights(target: "pd.Series[int]") -> dict[int, float]:
    """Return a weight for each class, inverse to its frequency, as scikit-learn's "balanced" defines it."""
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(target)
    return dict(
        zip(present.tolist(), compute_class_weight("balanced", classes=present, y=target).tolist(), strict=True)
    )


def as_dataset(epoch: Callable[[], Batches], batches: int, dim: int) -> Any:
    """Return a tf.data.Dataset of the `batches` batches of an epoch; each pass over it begins a new epoch."""
    import tensorflow as tf

    signature = (tf.TensorSpec((None, None, dim), tf.float32), tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(batches)).prefetch(2)


def one_view_batches(features: FeatureReader, training: pd.DataFrame, train: Train) -> Callable[[], Batches]:
    """Return a generator function whose every call is an epoch: all training images, shuffled, a random view of each.

    It yields features (batch, 1, dim), float32, and targets (batch,), int32.
    """
    random = np.random.default_rng(train.seed)
    rows = training["row"].to_numpy()
    targets = training["target"].to_numpy(np.int32)
    block = train.batch_size * max(1, BLOCK // train.batch_size)

    def epoch() -> Batches:
        order = random.permutation(len(rows))
        views = random.integers(features.info.views, size=len(rows))
        for start in range(0, len(rows), block):
            chosen = order[start : start + block]
            block_features = features.random_views(rows[chosen], views[chosen])[:, None]
            for first in range(0, len(chosen), train.batch_size):
                batch = slice(first, first + train.batch_size)
                yield block_features[batch], targets[chosen[batch]]

    return epoch


def all_view_batches(features: FeatureReader, validation: pd.DataFrame) -> Callable[[], Batches]:
    """Return a generator function that yields all views, (batch, views, dim), and targets of the validation images."""
    rows = validation["row"].to_numpy()
    targets = validation["target"].to_numpy(np.int32)

    def epoch() -> Batches:
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            yield features.all_views(rows[block]), targets[block]

    return epoch


def predict(keras: Any, head: Any, features: FeatureReader, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return class probabilities, (len(rows), views, classes), of all views of some images."""
    blocks = []
    for start in range(0, len(rows), BLOCK):
        views = features.all_views(rows[start : start + BLOCK])
        flat = predict_probabilities(keras, head, views.reshape(-1, views.shape[-1]))
        blocks.append(flat.reshape(*views.shape[:2], -1))
    return np.concatenate(blocks)


def tabulate(images: pd.DataFrame, classes: list[str], probabilities: NDArray[np.float32]) -> pd.DataFrame:
    """Return the prediction table: `image_id, part, label, predicted, p_<class>...`."""
    table = images[["image_id", "part", "label"]].reset_index(drop=True)
    table["predicted"] = np.array(classes)[probabilities.argmax(axis=1)]
    return table.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes]))
