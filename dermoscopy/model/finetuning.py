"""Fine-tuning: the top layers of the backbone learn together with a head, after the head has learnt alone.

Normalization layers stay in inference mode. The epoch that is kept is the one of the lowest validation loss, the frozen
backbone included.

Imports Keras: call `start_keras` first.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.networks import Cut
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.head import Head
from dermoscopy.model.keras_head import build_head, from_keras, to_keras
from dermoscopy.model.tuning_files import Tuning
from dermoscopy.model.tuning_inputs import Batches, Epochs, OneView, StoredFeatures, Views
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Finetune
from dermoscopy.runtime.progress import progress

# the features that the head is warmed up on are in memory: 370 MB of 1,536 numbers
WARM_UP_VIEWS = 3
WARM_UP_IMAGES = 20_000

Part = tuple[Views, NDArray[np.int32]]  # the images of a part of the split, and their classes by number


class JointModel(keras.Model):
    """What lies above the cut and the head, in training together: the backbone's layers as when they only infer.

    A model of both would tell the backbone, too, that it is trained: normalization would go by the batch, and what it
    has learnt be overwritten.
    """

    def __init__(self, top: keras.Model, head: keras.Model) -> None:
        super().__init__(name="joint")
        self.top = top
        self.head = head

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return probabilities, (batch, classes)."""
        return self.head(self.top(inputs, training=False), training=training)


class EachEpoch(keras.callbacks.Callback):
    """Begins each epoch by its number alone, saves it, and ends the training where it does not improve any more."""

    def __init__(self, epochs: Epochs, tuning: Tuning, seed: int) -> None:
        super().__init__()
        self._epochs = epochs
        self._tuning = tuning
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epochs.begin(epoch + 1)
        dropout = self.model.head.get_layer("dropout")
        if dropout.rate:
            dropout.seed_generator.state.assign(np.array([self._seed, epoch + 1], np.uint32))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        save(self._tuning, self.model, logs or {})
        self.model.stop_training = self._tuning.finished


def save(tuning: Tuning, model: keras.Model, values: dict[str, float]) -> None:
    """Keep a model after an epoch, with its optimizer."""
    size = 2**20 + 4 * sum(int(np.prod(variable.shape)) for variable in (*model.variables, *model.optimizer.variables))
    tuning.save(model.save_weights, size, {name: float(value) for name, value in values.items()})


def tune(cut: Cut, training: Part, validation: Part, classes: int, finetune: Finetune, tuning: Tuning) -> None:
    """Train the layers above the cut until the validation loss stops falling; `use_best` then gives them the weights.

    Args:
        cut: the backbone, cut.
        training: the images to learn from.
        validation: the images that decide when to stop, of which view 0 is seen.
        classes: how many there are.
        finetune: the params.
        tuning: what was done before an interruption, and where the rest is kept.

    Raises:
        PipelineError: an image cannot be read any more, or the disk is full.
    """
    keras.utils.set_random_seed(finetune.seed)  # an engine may have drawn
    views, targets = training
    weights = class_weights(targets, classes, finetune.class_weights)[targets].astype(np.float32)
    if not tuning.history:
        head = warm_up(cut.top, training, validation, weights, classes, finetune)
        with replacing(tuning.head) as path:
            from_keras(head).save(path)
    model = joint_model(cut, tuning, finetune)
    epochs = Epochs(views, targets, weights, finetune.batch_size, finetune.seed)
    steps = len(epochs)
    rate = keras.optimizers.schedules.CosineDecay(
        finetune.learning_rate / 100,
        max(1, steps * (finetune.epochs - 1)),
        warmup_target=finetune.learning_rate,
        warmup_steps=steps,
    )
    model.compile(keras.optimizers.AdamW(rate), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    watched = OneView(validation[0], np.arange(len(validation[1])), 0, validation[1])
    with faults_of(epochs, watched):
        build_losses(model, watched)
        if tuning.history:
            model.load_weights(tuning.weights(tuning.done))
        else:
            frozen = model.evaluate(watched, verbose=0, return_dict=True)
            save(tuning, model, {f"val_{name}": value for name, value in frozen.items()})
        with progress("finetune", steps * finetune.epochs, "batch") as bar:
            bar.update(steps * tuning.done)
            bar.set_postfix(tuning.history[-1])
            moving = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: bar.update(),
                on_epoch_end=lambda epoch, logs: bar.set_postfix(logs),
            )
            model.fit(
                epochs,
                validation_data=watched,
                epochs=finetune.epochs,
                initial_epoch=tuning.done,
                callbacks=[EachEpoch(epochs, tuning, finetune.seed), moving],
                shuffle=False,
                verbose=0,
            )


def joint_model(cut: Cut, tuning: Tuning, finetune: Finetune) -> keras.Model:
    """Return the layers above the cut and the head, which was warmed up, as one model."""
    model = JointModel(cut.top, to_keras(Head.load(tuning.head), finetune.dropout))
    model(np.zeros((1, *cut.top.input_shape[1:]), np.float32))  # gives it its weights
    return model


def use_best(cut: Cut, tuning: Tuning, finetune: Finetune) -> None:
    """Give the layers above the cut the weights of the best epoch."""
    joint_model(cut, tuning, finetune).load_weights(tuning.weights(tuning.best))


def warm_up(
    top: keras.Model,
    training: Part,
    validation: Part,
    weights: NDArray[np.float32],
    classes: int,
    finetune: Finetune,
) -> keras.Model:
    """Return a head that was trained on the features of the frozen backbone; `weights` are those of the images.

    Of many images some are enough: it only must not begin with weights that shake the backbone.
    """
    views, targets = training
    chosen = np.random.default_rng(finetune.seed).permutation(len(targets))[:WARM_UP_IMAGES]
    features = np.empty((len(chosen), 1 + min(finetune.views, WARM_UP_VIEWS - 1), top.output_shape[-1]), np.float32)
    for view in range(features.shape[1]):
        batches = OneView(views, chosen, view)
        with faults_of(batches):
            features[:, view] = top.predict(batches, verbose=0)
    batches = OneView(validation[0], np.arange(len(validation[1])), 0)
    with faults_of(batches):
        watched = top.predict(batches, verbose=0)
    mean, variance = features.mean(axis=(0, 1), dtype=np.float64), features.var(axis=(0, 1), dtype=np.float64)
    # one scale for all: a feature that hardly differs would be blown up when its layers begin to change
    deviation = np.full(len(mean), np.sqrt(variance.mean()), np.float32)
    head = build_head(mean.astype(np.float32), deviation, finetune.dropout, classes)
    head.compile(keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    epochs = Epochs(StoredFeatures(features), targets[chosen], weights[chosen], 128, finetune.seed)
    build_losses(head, epochs)
    head.fit(
        epochs,
        validation_data=(watched, validation[1]),
        epochs=100,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: epochs.begin(epoch + 1)),
            keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True),
        ],
        shuffle=False,
        verbose=0,
    )
    return head


def build_losses(model: keras.Model, batches: Batches) -> None:
    """Let Keras see the first batch before it takes one out of an epoch to know the shapes of losses and metrics.

    On JAX and PyTorch it then begins that epoch with the batches behind that one which threads have made already, and
    drops as many at its end (Keras 3.15).
    """
    model.test_on_batch(*batches[0])


@contextmanager
def faults_of(*batches: Batches) -> Iterator[None]:
    """Raise what kept batches from being made, which Keras hides behind an error of its backend."""
    try:
        yield
    except Exception:  # what each backend raises has kinds of its own
        for one in batches:
            if isinstance(one.error, (PipelineError, OSError)):
                raise one.error from None
        raise
