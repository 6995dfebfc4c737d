"""The fast fit of a linear head: many optimizer steps in one call, because a step costs less than calling it.

`fit` does what `head.compile(Adam(...)); head.fit(...)` does, image for image and step for step, with three additions:
each image of an epoch is one of its views, drawn at random; validation averages the probabilities of all views; and
dropout is drawn by NumPy. For 7,000 images of 1,280 numbers in batches of 32 an epoch takes 0.13 s, and 0.78 s with the
plain `fit` on the same batches (two cores). It knows the three layers of `build_head` and no other head.
tests/model/test_fast_fit.py compares both.

Imports Keras and TensorFlow: call `start_keras` first.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import ceil
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from numpy.typing import NDArray

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.class_weights import class_weights
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Train
from dermoscopy.runtime.paths import FEATURES

Block = tuple[NDArray[Any], ...]

TRAINING_IMAGES = 4096  # in memory at a time, one view of each: 25 MB of 1,536 numbers
VALIDATION_IMAGES = 256  # in memory at a time, all views of each: 5 MB with three views of 1,536 numbers


class Fitted(NamedTuple):
    """How a training went.

    Attributes:
        history: the values of each epoch, by metric as Keras names it, such as `val_loss`.
        kept: the epoch, from 0, whose weights were kept.
        stopped_early: whether early stopping ended it, not the number of epochs that the params allow.
    """

    history: dict[str, list[float]]
    kept: int
    stopped_early: bool

    @property
    def epochs(self) -> int:
        """How many epochs were run."""
        return len(self.history["val_loss"])


def fit(
    head: keras.Model,
    features: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    train: Train,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Fitted:
    """Train until the validation loss, of probabilities averaged over views, stops falling; keep the best weights.

    Args:
        head: what learns, from `build_head`.
        features: of all images.
        training: `row` and `target` of the images to train on.
        validation: the same of the images that decide when to stop.
        train: the params.
        callbacks: called beside early stopping.

    Raises:
        DataError: the features cannot be read any more.
    """
    early_stopping = keras.callbacks.EarlyStopping("val_loss", patience=train.patience, restore_best_weights=True)
    trainer = HeadTrainer(head)
    trainer.compile(
        optimizer=keras.optimizers.Adam(train.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    trainer.optimizer.build(head.trainable_variables)
    training_feed = Feed(TrainingBlocks(features, training, train))
    validation_feed = Feed(ValidationBlocks(features, validation))
    try:
        history = trainer.fit(
            training_feed.dataset(),
            steps_per_epoch=len(training_feed),
            validation_data=validation_feed.dataset(),
            validation_steps=len(validation_feed),
            epochs=train.epochs,
            shuffle=False,
            callbacks=[early_stopping, *callbacks],
            verbose=0,
        )
    except tf.errors.OpError:  # as which tf.data raises whatever a feed raises
        error = training_feed.error or validation_feed.error
        if isinstance(error, (DataError, OSError)):
            raise DataError(f"{FEATURES} changed, or cannot be read any more: run dvc repro features") from None
        raise
    return Fitted(history.history, early_stopping.best_epoch, early_stopping.stopped_epoch > 0)


class HeadTrainer(keras.Model):
    """A head, shared, in training: it learns from blocks of batches and is judged by probabilities averaged over views.

    `fit` takes blocks of features (batches, batch, dim), of which numbers are kept, bool and of the same shape, of
    targets and of weights (batches, batch), and moves the optimizer once for each batch; its validation data, as
    `evaluate` and a call, take (images, views, dim) and targets (images,).

    It works with logits, so its loss must, too. What dropout keeps is drawn outside, because TensorFlow needs as long
    to draw it as for all steps of an epoch.
    """

    def __init__(self, head: keras.Model) -> None:
        super().__init__(name="head_trainer")
        self.head = head
        self._normalization = head.get_layer("normalization")
        self._dropout_rate = head.get_layer("dropout").rate
        self._dense = head.get_layer("probabilities")

    def call(self, views: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return logits, (images, classes), of probabilities averaged over views, of features (images, views, dim)."""
        # normalization is linear, so it can be a part of the weights, which are few, and not of the features
        deviation = keras.ops.maximum(keras.ops.sqrt(self._normalization.variance[0]), keras.config.epsilon())
        kernel = self._dense.kernel / deviation[:, None]
        bias = self._dense.bias - keras.ops.matmul(self._normalization.mean[0], kernel)
        probabilities = self._dense.activation(keras.ops.matmul(views, kernel) + bias)
        return keras.ops.log(keras.ops.maximum(keras.ops.mean(probabilities, axis=1), keras.config.epsilon()))

    def train_step(self, block: Any) -> dict[str, tf.Tensor]:
        """Learn from a block and return the metrics by name."""
        features, kept, targets, weights = block
        # what is not learnt is done for all batches at once
        features = tf.where(kept, self._normalization(features), 0.0) / (1 - self._dropout_rate)
        losses, logits = self._take_steps(features, targets, weights)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(losses, tf.fill(tf.shape(losses), tf.shape(targets)[1]))
            else:
                # an image a row: of a table of batches Keras would count each batch once, however small
                metric.update_state(tf.reshape(targets, [-1]), tf.reshape(logits, [-1, self._dense.units]))
        return dict(self.get_metrics_result())

    @tf.function
    def _take_steps(self, features: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Take a step for each batch; return losses (batches,) and logits (batches, batch, classes)."""
        batches = tf.shape(features)[0]
        losses = tf.TensorArray(tf.float32, batches)
        logits = tf.TensorArray(tf.float32, batches)
        learnt = self._dense.trainable_variables
        for number in tf.range(batches):
            with tf.GradientTape() as tape:
                predicted = keras.ops.matmul(features[number], self._dense.kernel) + self._dense.bias
                loss = self.compute_loss(y=targets[number], y_pred=predicted, sample_weight=weights[number])
            self.optimizer.apply(tape.gradient(loss, learnt), learnt)
            losses = losses.write(number, loss)
            logits = logits.write(number, predicted)
        return losses.stack(), logits.stack()  # noqa: PD013 - no DataFrame


class Blocks(Protocol):
    """Epochs of arrays, a block at a time."""

    @property
    def arrays(self) -> list[tuple[str, tuple[int | None, ...]]]:
        """Dtype and shape, with None where it differs from block to block, of each array of a block."""
        ...

    def __len__(self) -> int:
        """Return how many blocks an epoch has."""
        ...

    def epoch(self) -> Iterator[Block]:
        """Yield the blocks of the next epoch."""
        ...


class TrainingBlocks:
    """Every epoch has all training images, shuffled, a random view of each.

    A block is features (batches, batch, dim), float32, which of their numbers dropout keeps, bool and of the same
    shape, targets and weights (batches, batch), int32 and float32; the last batch is smaller where the images do not
    fill it, and a block of its own.
    """

    def __init__(self, features: FeatureReader, training: pd.DataFrame, train: Train) -> None:
        self._features = features
        self._random = np.random.default_rng(train.seed)
        self._rows = training["row"].to_numpy()
        self._targets = training["target"].to_numpy(np.int32)
        weights = class_weights(training["target"], self._targets.max() + 1, train.class_weights)
        self._weights = weights[self._targets].astype(np.float32)
        self._batch_size = train.batch_size
        self._dropout = train.dropout
        self.bounds = block_bounds(len(training), train.batch_size)

    @property
    def arrays(self) -> list[tuple[str, tuple[int | None, ...]]]:
        block = (None, None, self._features.info.dim)
        return [("float32", block), ("bool", block), ("int32", block[:2]), ("float32", block[:2])]

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def epoch(self) -> Iterator[Block]:
        order = self._random.permutation(len(self._rows))
        views = self._random.integers(self._features.info.views, size=len(self._rows))
        for start, end in pairwise(self.bounds):
            chosen = order[start:end]
            batches = chosen.reshape(-1, min(end - start, self._batch_size))
            one_view = self._features.random_views(self._rows[chosen], views[chosen]).reshape(*batches.shape, -1)
            # four numbers of 16 bits for each of 64: the chance is the dropout to 1/65,536
            raw = self._random.bit_generator.random_raw(ceil(one_view.size / 4))
            chances = raw.view(np.uint16)[: one_view.size]
            kept = (chances >= round(self._dropout * 2**16)).reshape(one_view.shape)
            yield one_view, kept, self._targets[batches], self._weights[batches]


class ValidationBlocks:
    """Every epoch has all views, (images, views, dim), and targets, (images,), of the validation images, in order."""

    def __init__(self, features: FeatureReader, validation: pd.DataFrame) -> None:
        self._features = features
        self._rows = validation["row"].to_numpy()
        self._targets = validation["target"].to_numpy(np.int32)

    @property
    def arrays(self) -> list[tuple[str, tuple[int | None, ...]]]:
        return [("float32", (None, None, self._features.info.dim)), ("int32", (None,))]

    def __len__(self) -> int:
        return ceil(len(self._rows) / VALIDATION_IMAGES)

    def epoch(self) -> Iterator[Block]:
        for start in range(0, len(self._rows), VALIDATION_IMAGES):
            block = slice(start, start + VALIDATION_IMAGES)
            yield self._features.all_views(self._rows[block]), self._targets[block]


def block_bounds(images: int, batch_size: int) -> list[int]:
    """Return where the blocks of an epoch begin, and the end: whole batches each, and what is left over as the last."""
    full = images - images % batch_size
    block = batch_size * max(1, TRAINING_IMAGES // batch_size)
    return sorted({*range(0, full, block), full, images})


class Feed:
    """Hands blocks to TensorFlow, one epoch after the other, without end.

    So one iterator does for all epochs, and the next epoch is read while the last one is validated.

    Attributes:
        error: what went wrong in reading a block; TensorFlow raises an error of its own in its place.
    """

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks
        self._epochs = self._without_end()
        self.error: Exception | None = None

    def __len__(self) -> int:
        return len(self._blocks)

    def dataset(self) -> tf.data.Dataset:
        """Return the blocks as a dataset, read ahead by one; each of its iterators begins with a new epoch.

        Not by Dataset.from_generator: with it TensorFlow 2.21 has the C library give memory back at once
        (M_TRIM_THRESHOLD), and every array is then made of new pages.
        """
        # there is nothing to tune, and to end an iterator would be to wait for the tuner, up to 0.15 s an epoch
        options = tf.data.Options()
        options.autotune.enabled = False
        return tf.data.Dataset.counter().map(self._next_tensors).prefetch(1).with_options(options)

    def _without_end(self) -> Iterator[Block]:
        while True:
            yield from self._blocks.epoch()

    def _take(self, number: NDArray[np.int64]) -> Block:
        if number == 0:  # a new iterator: nothing that an earlier one read ahead may be missing
            self._epochs = self._without_end()
        try:
            return next(self._epochs)
        except Exception as error:  # any: TensorFlow raises one of its own instead, with the words of this one
            self.error = error
            raise

    def _next_tensors(self, number: tf.Tensor) -> tuple[tf.Tensor, ...]:
        block = tf.numpy_function(self._take, [number], [dtype for dtype, _ in self._blocks.arrays])
        return tuple(
            tf.ensure_shape(array, shape) for array, (_, shape) in zip(block, self._blocks.arrays, strict=True)
        )
