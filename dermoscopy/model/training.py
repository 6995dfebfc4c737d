"""Training the head on cached features: moments, batches, the fit itself, and predictions."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.errors import DataError
from stages.common.features import FEATURES, FeatureReader
from stages.common.heads import build_head, predict_probabilities
from stages.common.params import Train

Blocks = Iterator[tuple[NDArray[Any], ...]]

# Images in memory at a time, all views of each: 5 MB with three views of 1,536 numbers.
BLOCK = 256
# Images in memory at a time, one view of each: 25 MB of 1,536 numbers.
TRAINING_BLOCK = 4096


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
    return head, fit(keras, head, features, training, validation, train, callbacks)


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
    head: Any,
    features: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    train: Train,
    callbacks: Sequence[Any] = (),
) -> int:
    """Train until the validation loss, of probabilities averaged over views, stops falling; keep the best weights.

    Args:
        keras: the module, started.
        head: what learns.
        features: of all images.
        training: `row` and `target` of the images to train on.
        validation: the same of the images that decide when to stop.
        train: the params.
        callbacks: Keras' callbacks to call beside early stopping.

    Returns:
        How many epochs were run.

    Raises:
        DataError: the features cannot be read any more.
    """
    import tensorflow as tf

    from stages.common.head_trainer import HeadTrainer

    trainer = HeadTrainer(head)
    trainer.compile(
        optimizer=keras.optimizers.Adam(train.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    trainer.optimizer.build(head.trainable_variables)
    dim = features.info.dim
    block = (None, None, dim)
    try:
        history = trainer.fit(
            as_dataset(
                one_view_blocks(features, training, train),
                (tf.float32, block),
                (tf.bool, block),
                (tf.int32, block[:2]),
                (tf.float32, block[:2]),
            ),
            steps_per_epoch=len(block_bounds(len(training), train.batch_size)) - 1,
            validation_data=as_dataset(all_view_blocks(features, validation), (tf.float32, block), (tf.int32, (None,))),
            validation_steps=ceil(len(validation) / BLOCK),
            epochs=train.epochs,
            shuffle=False,
            callbacks=[
                keras.callbacks.EarlyStopping("val_loss", patience=train.patience, restore_best_weights=True),
                *callbacks,
            ],
            verbose=0,
        )
    except tf.errors.OpError as error:  # as which tf.data raises whatever a generator raises
        if not any(name in error.message for name in (DataError.__name__, OSError.__name__)):
            raise
        raise DataError(f"{FEATURES} changed, or cannot be read any more: run dvc repro features") from None
    return len(history.epoch)


def class_weights(target: "pd.Series[int]") -> dict[int, float]:
    """Return a weight for each class, inverse to its frequency, as scikit-learn's "balanced" defines it."""
    from sklearn.utils.class_weight import compute_class_weight

    present = np.unique(target)
    return dict(
        zip(present.tolist(), compute_class_weight("balanced", classes=present, y=target).tolist(), strict=True)
    )


def as_dataset(epoch: Callable[[], Blocks], *arrays: tuple[Any, tuple[int | None, ...]]) -> Any:
    """Return a tf.data.Dataset of the blocks of one epoch after the other, without end.

    So one iterator does for all epochs, and the next epoch is read while the last one is validated.

    Args:
        epoch: a generator function.
        arrays: dtype and shape, with None where it differs from block to block, of each array of a block.
    """
    import tensorflow as tf

    def epochs() -> Blocks:
        while True:
            yield from epoch()

    blocks = epochs()

    def take(number: int) -> tuple[NDArray[Any], ...]:
        nonlocal blocks
        if number == 0:  # a new iterator: nothing that an earlier one read ahead may be missing
            blocks = epochs()
        return next(blocks)

    # no Dataset.from_generator: with it TensorFlow 2.21 has the C library give memory back at once (M_TRIM_THRESHOLD),
    # and every array is then made of new pages
    def next_block(number: Any) -> Any:
        block = tf.numpy_function(take, [number], [dtype for dtype, _ in arrays])
        return tuple(tf.ensure_shape(array, shape) for array, (_, shape) in zip(block, arrays, strict=True))

    # there is nothing to tune, and to end an iterator would be to wait for the tuner, up to 0.15 s an epoch
    options = tf.data.Options()
    options.autotune.enabled = False
    return tf.data.Dataset.counter().map(next_block).prefetch(1).with_options(options)


def block_bounds(images: int, batch_size: int) -> list[int]:
    """Return where the blocks of an epoch begin, and the end: whole batches each, and what is left over as the last."""
    full = images - images % batch_size
    block = batch_size * max(1, TRAINING_BLOCK // batch_size)
    return sorted({*range(0, full, block), full, images})


def one_view_blocks(features: FeatureReader, training: pd.DataFrame, train: Train) -> Callable[[], Blocks]:
    """Return a generator function whose every call is an epoch: all training images, shuffled, a random view of each.

    It yields blocks of features (batches, batch, dim), float32, of which of their numbers dropout keeps, bool and of
    the same shape, of targets and of weights (batches, batch), int32 and float32; the last batch is smaller where the
    images do not fill it, and a block of its own.
    """
    random = np.random.default_rng(train.seed)
    rows = training["row"].to_numpy()
    targets = training["target"].to_numpy(np.int32)
    weights = np.ones(len(rows), np.float32)
    if train.class_weights == "balanced":
        weights = training["target"].map(class_weights(training["target"])).to_numpy(np.float32)
    bounds = block_bounds(len(rows), train.batch_size)

    def epoch() -> Blocks:
        order = random.permutation(len(rows))
        views = random.integers(features.info.views, size=len(rows))
        for start, end in pairwise(bounds):
            chosen = order[start:end]
            batches = chosen.reshape(-1, min(end - start, train.batch_size))
            one_view = features.random_views(rows[chosen], views[chosen]).reshape(*batches.shape, -1)
            # four numbers of 16 bits for each of 64: the chance is train.dropout to 1/65,536
            chances = random.bit_generator.random_raw(ceil(one_view.size / 4)).view(np.uint16)[: one_view.size]
            kept = (chances >= round(train.dropout * 2**16)).reshape(one_view.shape)
            yield one_view, kept, targets[batches], weights[batches]

    return epoch


def all_view_blocks(features: FeatureReader, validation: pd.DataFrame) -> Callable[[], Blocks]:
    """Return a generator function that yields all views, (images, views, dim), and targets of the validation images."""
    rows = validation["row"].to_numpy()
    targets = validation["target"].to_numpy(np.int32)

    def epoch() -> Blocks:
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
