"""Training the head on stored features, and predicting the images whose features are stored.

It is what `compile(Adam(...))` and `fit` of Keras do with the same layers, loss and class weights, step for step
(tests/model/test_training.py compares both), with three additions: each image of an epoch is one of its views, drawn at
random; validation averages the probabilities of all views; and it needs no TensorFlow, which takes nearly as long to
import as this takes to train on 7,000 images.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.head import Head, softmax
from dermoscopy.runtime.params import Train

IMAGES_AT_A_TIME = 256  # one view of each: 1.6 MB of 1,536 numbers
LEAST = 1e-7  # deviation, and probability in a logarithm, as in Keras

Metrics = dict[str, float]
Function = TypeVar("Function", bound=Callable[..., Any])


class Fitted(NamedTuple):
    """How a training went.

    Attributes:
        history: the metrics of each epoch: `train/loss`, `train/accuracy`, and of validation `eval/loss` and
            `eval/accuracy`.
        kept: the epoch, from 0, whose weights were kept.
        stopped_early: whether early stopping ended it, not the number of epochs that the params allow.
    """

    history: list[Metrics]
    kept: int
    stopped_early: bool

    @property
    def epochs(self) -> int:
        """How many epochs were run."""
        return len(self.history)


def single_threaded(function: Function) -> Function:
    """Return a function that gives matrix products one thread.

    These here are so small that several threads wait longer than they compute: on busy processors it took seven times
    as long.
    """
    wrapped: Function = threadpool_limits.wrap(limits=1)(function)
    return wrapped


@single_threaded
def train_head(
    features: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    classes: int,
    train: Train,
    after_epoch: Callable[[Metrics], None] = lambda metrics: None,
) -> tuple[Head, Fitted]:
    """Train until the validation loss, of probabilities averaged over views, stops falling; keep the best weights.

    Args:
        features: of all images.
        training: `row` and `target` of the images to train on.
        validation: the same of the images that decide when to stop.
        classes: how many there are.
        train: the params; the same seed gives the same head.
        after_epoch: called after each with its metrics, see `Fitted`.

    Returns:
        The head, and how its training went.

    Raises:
        DataError: the features cannot be read any more.
    """
    learner = Learner(features, training, classes, train)
    rows, targets = validation["row"].to_numpy(), validation["target"].to_numpy()
    history: list[Metrics] = []
    kept, best = 0, learner.head
    for epoch in range(train.epochs):
        loss, accuracy = learner.learn()
        head = learner.head
        probabilities = predict_views(head, features, rows).mean(axis=1)
        metrics = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "eval/loss": float(cross_entropy(probabilities, targets).mean()),
            "eval/accuracy": float((probabilities.argmax(axis=1) == targets).mean()),
        }
        history.append(metrics)
        after_epoch(metrics)
        if epoch == 0 or metrics["eval/loss"] < history[kept]["eval/loss"]:
            kept, best = epoch, head
        elif epoch - kept >= train.patience:
            return best, Fitted(history, kept, stopped_early=True)
    return best, Fitted(history, kept, stopped_early=False)


class Learner:
    """A head that learns, an epoch at a time.

    Each epoch has all training images, shuffled, a random view of each.
    """

    def __init__(self, features: FeatureReader, training: pd.DataFrame, classes: int, train: Train) -> None:
        self._features = features
        self._rows, self._targets = training["row"].to_numpy(), training["target"].to_numpy()
        self._image_weights = class_weights(self._targets, classes, train.class_weights)[self._targets]
        self._train = train
        self._random = np.random.default_rng(train.seed)
        mean, variance = feature_moments(features, self._rows)
        self._mean = mean.astype(np.float32)
        self._deviation = np.maximum(np.sqrt(variance), LEAST).astype(np.float32)
        # as Keras begins a Dense layer: Glorot and Bengio, Understanding the difficulty of training deep feedforward
        # neural networks, AISTATS 2010
        limit = np.sqrt(6 / (len(mean) + classes))
        kernel = self._random.uniform(-limit, limit, (len(mean), classes))
        self._parameters = np.vstack([kernel, np.zeros(classes)]).astype(np.float32)  # the last row is the bias
        self._adam = Adam(self._parameters, train.learning_rate)

    @property
    def head(self) -> Head:
        """The head as it is now."""
        return Head(self._mean, self._deviation, self._parameters[:-1].copy(), self._parameters[-1].copy())

    def learn(self) -> tuple[float, float]:
        """Take a step for each batch of an epoch; return its mean loss, weighted by class, and its accuracy."""
        images, size = len(self._rows), self._train.batch_size
        order = self._random.permutation(images)
        views = self._random.integers(self._features.info.views, size=images)
        loss = right = 0.0
        for start in range(0, images, size):
            batch = order[start : start + size]
            targets, weights = self._targets[batch], self._image_weights[batch]
            probabilities = self._step(
                self._features.random_views(self._rows[batch], views[start : start + size]), targets, weights
            )
            loss += float(weights @ cross_entropy(probabilities, targets))
            right += int((probabilities.argmax(axis=1) == targets).sum())
        return loss / images, right / images

    def _step(
        self, features: NDArray[np.float32], targets: NDArray[np.intp], weights: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Learn from a batch, (n, dim), which is overwritten; return the probabilities, (n, classes), before it."""
        # what is the same for all images is done to the weights, which are few: scaling, and what dropout divides by
        scale = self._deviation[:, None] * np.float32(1 - self._train.dropout)
        features -= self._mean
        if self._train.dropout:
            # of 64 random bits at a time, 16 for each number: the chance is the dropout to 1/65,536
            raw = self._random.bit_generator.random_raw(-(-features.size // 4))
            chances = raw.view(np.uint16)[: features.size].reshape(features.shape)
            features *= chances >= round(self._train.dropout * 2**16)
        probabilities = softmax(features @ (self._parameters[:-1] / scale) + self._parameters[-1])
        of_logits = probabilities.copy()  # the gradient of the loss
        of_logits[np.arange(len(targets)), targets] -= 1
        of_logits *= (weights / len(targets))[:, None]
        self._adam.step(np.vstack([features.T @ of_logits / scale, of_logits.sum(axis=0)]))
        return probabilities


class Adam:
    """Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015, with the constants of Keras.

    The bias of the moments is corrected as at the end of their section 2.
    """

    MEAN, VARIANCE, EPSILON = 0.9, 0.999, 1e-7

    def __init__(self, parameters: NDArray[np.float32], learning_rate: float) -> None:
        """Take the parameters, which each step changes in place."""
        self._parameters = parameters
        self._rate = learning_rate
        self._mean, self._variance = np.zeros_like(parameters), np.zeros_like(parameters)
        self._steps = 0

    def step(self, gradient: NDArray[np.float32]) -> None:
        """Move the parameters by a gradient of their shape."""
        self._steps += 1
        self._mean += (1 - self.MEAN) * (gradient - self._mean)
        self._variance += (1 - self.VARIANCE) * (gradient**2 - self._variance)
        rate = self._rate * np.sqrt(1 - self.VARIANCE**self._steps) / (1 - self.MEAN**self._steps)
        self._parameters -= np.float32(rate) * self._mean / (np.sqrt(self._variance) + self.EPSILON)


def cross_entropy(probabilities: NDArray[np.float32], targets: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the loss, (n,), of each image, from probabilities (n, classes) and the numbers of the true classes."""
    return np.asarray(-np.log(np.maximum(probabilities[np.arange(len(targets)), targets], LEAST)), np.float32)


def feature_moments(features: FeatureReader, rows: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance, (dim,) each, over all views of the images in `rows`.

    A feature that never changes has the variance 1, so that it stays finite when it is standardised.
    """
    # beside one of the values the squares are small enough for their mean, and of what never changes they are 0
    origin = features.view(0, rows[:1]).astype(np.float64)
    total, squares = np.zeros(features.info.dim), np.zeros(features.info.dim)
    for view in range(features.info.views):
        for start in range(0, len(rows), IMAGES_AT_A_TIME):
            block = features.view(view, rows[start : start + IMAGES_AT_A_TIME]) - origin
            total += block.sum(axis=0)
            squares += np.einsum("ij,ij->j", block, block)
    count = len(rows) * features.info.views
    mean, variance = origin[0] + total / count, squares / count - (total / count) ** 2
    variance[squares == 0] = 1
    if features.scaled:  # a rare value would be a number of many times the scale of the others
        mean[-features.scaled :], variance[-features.scaled :] = 0, 1
    return mean, variance


@single_threaded
def predict_views(head: Head, features: FeatureReader, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return class probabilities, (len(rows), views, classes), of all views of some images."""
    probabilities = np.empty((len(rows), features.info.views, len(head.bias)), np.float32)
    for view in range(features.info.views):
        for start in range(0, len(rows), IMAGES_AT_A_TIME):
            block = slice(start, start + IMAGES_AT_A_TIME)
            probabilities[block, view] = head.probabilities(features.view(view, rows[block]))
    return probabilities
