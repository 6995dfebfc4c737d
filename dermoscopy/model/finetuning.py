"""Fine-tuning: the top layers of the backbone learn together with a head, after the head has learnt alone.

What lies below them stays frozen, so its output is data: it is computed once for a few views of each image and kept,
and an epoch runs the top layers only. Normalization layers stay in inference mode. The epoch that is kept is the one of
the lowest validation loss, the frozen backbone included, so that what comes out is never worse on validation.

Imports Keras, on any backend: call `start_keras` first.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.networks import Cut
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.head import build_head, load_keras_head, save_head
from dermoscopy.model.tuning_inputs import Epochs, OneView, StoredFeatures, Views
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Finetune
from dermoscopy.runtime.progress import progress

WARM_UP_VIEWS = 3  # at most, of each image: their features are in memory


class Tuning:
    """A fine-tuning and its files, from which it goes on after an interruption.

    `head.keras` is the head when the joint training begins, `epoch_<n>.weights.h5` all weights and the optimizer's
    state after an epoch, of the last one and the best one; `history.json`, written last, the metrics of each epoch,
    that of the frozen backbone first.
    """

    def __init__(self, folder: Path, finetune: Finetune) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._finetune = finetune
        self.history: list[dict[str, float]] = []
        if (folder / "history.json").exists():
            self.history = json.loads((folder / "history.json").read_text(encoding="utf-8"))

    @property
    def head(self) -> Path:
        """Where the head is when the joint training begins."""
        return self._folder / "head.keras"

    @property
    def done(self) -> int:
        """How many epochs were run."""
        return max(0, len(self.history) - 1)

    @property
    def best(self) -> int:
        """The epoch of the lowest validation loss; 0 is the frozen backbone."""
        return int(np.argmin([values["val_loss"] for values in self.history]))

    @property
    def finished(self) -> bool:
        """Whether no epoch is left, or the last ones have not improved."""
        waited = self.done - self.best if self.history else 0
        return bool(self.history) and (self.done >= self._finetune.epochs or waited >= self._finetune.patience)

    def weights(self, epoch: int) -> Path:
        """Return the file of all weights after an epoch."""
        return self._folder / f"epoch_{epoch}.weights.h5"

    def save(self, model: keras.Model, values: dict[str, float]) -> None:
        """Write what has become of the model after the next epoch; what is not needed any more is deleted."""
        history = [*self.history, values]
        with replacing(self.weights(len(history) - 1)) as path:
            model.save_weights(path)
        with replacing(self._folder / "history.json") as path:
            path.write_text(json.dumps(history), encoding="utf-8")
        self.history = history
        needed = {self.weights(self.done), self.weights(self.best)}
        for path in self._folder.glob("epoch_*.weights.h5"):
            if path not in needed:
                path.unlink()


class SaveEpochs(keras.callbacks.Callback):
    """Saves each epoch, and ends the training where it does not improve any more."""

    def __init__(self, tuning: Tuning) -> None:
        super().__init__()
        self._tuning = tuning

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._tuning.save(self.model, {name: float(value) for name, value in (logs or {}).items()})
        self.model.stop_training = self._tuning.finished


Part = tuple[Views, NDArray[np.int32]]  # the images of a part of the split, and their classes by number


def tune(
    cut: Cut,
    training: Part,
    validation: Part,
    classes: int,
    finetune: Finetune,
    tuning: Tuning,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train the layers above the cut until the validation loss stops falling; `use_best` then gives them the weights.

    Args:
        cut: the backbone, cut.
        training: the images to learn from.
        validation: the images that decide when to stop, of which view 0 is seen.
        classes: how many there are.
        finetune: the params.
        tuning: what was done before an interruption, and where the rest is kept.
        callbacks: called in every epoch of the joint training.
    """
    views, targets = training
    weights = class_weights(targets, classes, finetune.class_weights)[targets].astype(np.float32)
    if not tuning.head.exists():
        head = warm_up(cut.top, training, validation, weights, classes, finetune)
        with replacing(tuning.head) as path:
            save_head(head, path)
    model = joint_model(cut, tuning)
    epochs = Epochs(views, targets, weights, finetune.batch_size, finetune.seed, tuning.done)
    steps = len(epochs)
    rate = keras.optimizers.schedules.CosineDecay(
        finetune.learning_rate / 100,
        max(1, steps * (finetune.epochs - 1)),
        warmup_target=finetune.learning_rate,
        warmup_steps=steps,
    )
    model.compile(keras.optimizers.AdamW(rate), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    watched = OneView(validation[0], len(validation[1]), 0, validation[1])
    if tuning.history:
        model.load_weights(tuning.weights(tuning.done))
    else:
        frozen = model.evaluate(watched, verbose=0, return_dict=True)
        tuning.save(model, {f"val_{name}": float(value) for name, value in frozen.items()})
    with progress("finetune", steps * finetune.epochs, "batch") as bar:
        bar.update(steps * tuning.done)
        bar.set_postfix(tuning.history[-1])
        moving = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: bar.update(), on_epoch_end=lambda epoch, logs: bar.set_postfix(logs)
        )
        model.fit(
            epochs,
            validation_data=watched,
            epochs=finetune.epochs,
            initial_epoch=tuning.done,
            callbacks=[SaveEpochs(tuning), moving, *callbacks],
            shuffle=False,
            verbose=0,
        )


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


def joint_model(cut: Cut, tuning: Tuning) -> keras.Model:
    """Return the layers above the cut and the head, which was warmed up, as one model."""
    model = JointModel(cut.top, load_keras_head(tuning.head))
    model(np.zeros((1, *cut.top.input_shape[1:]), np.float32))  # gives it its weights
    return model


def use_best(cut: Cut, tuning: Tuning) -> None:
    """Give the layers above the cut the weights of the best epoch."""
    joint_model(cut, tuning).load_weights(tuning.weights(tuning.best))


def warm_up(
    top: keras.Model,
    training: Part,
    validation: Part,
    weights: NDArray[np.float32],
    classes: int,
    finetune: Finetune,
) -> keras.Model:
    """Return a head that was trained on the features of the frozen backbone; `weights` are those of the images."""
    from sklearn.preprocessing import StandardScaler

    views, targets = training
    scaler = StandardScaler()
    of_views = []
    for view in range(1 + min(finetune.views, WARM_UP_VIEWS - 1)):
        of_views.append(top.predict(OneView(views, len(targets), view), verbose=0))
        scaler.partial_fit(of_views[-1].astype(np.float64))
    watched = top.predict(OneView(validation[0], len(validation[1]), 0), verbose=0)
    # one scale for all: a feature that hardly differs would be blown up when its layers begin to change
    variance = np.full_like(scaler.mean_, scaler.var_.mean())
    head = build_head(scaler.mean_, variance, finetune.dropout, classes)
    head.compile(keras.optimizers.Adam(0.001), keras.losses.SparseCategoricalCrossentropy(), metrics=["accuracy"])
    head.fit(
        Epochs(StoredFeatures(np.stack(of_views, axis=1)), targets, weights, 128, finetune.seed),
        validation_data=(watched, validation[1]),
        epochs=100,
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=5, restore_best_weights=True)],
        shuffle=False,
        verbose=0,
    )
    return head
