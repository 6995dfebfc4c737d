"""The original study's recipe, as a notebook runs it, against our own first full run, in turns on one machine.

The study trains a head on a frozen InceptionResNetV2 inside `fit`: decoded, resized and augmented anew in every epoch,
and in every epoch through the whole network. It stopped after nine epochs. Neither is run whole here: what is measured
is an epoch on a small part of the images, and our stages on as few, and each is multiplied up to HAM10000.
"""

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.features_stage import AUGMENTATION, VIEWS, Stage, whole
from benchmarks.inputs import BackboneFolder, draw_photographs, make_backbone
from benchmarks.made_up import learnable_features, made_up_info, write_features
from benchmarks.timing import Row, alternate, timed
from benchmarks.workers import Worker
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.training import train_head
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Train

IMAGES = 10_015
CLASSES = 7
EPOCHS = 9
# Images of an epoch that is measured, and those a turn of our features stage takes.
TRAINING, VALIDATION = 128, 32
OURS = 24
ROUNDS = 2
BACKBONES = ("InceptionResNetV2", "DenseNet121")
# Longer than ours trains on any data: `train.epochs` of params.yaml, without early stopping.
HEAD_EPOCHS = 150
MEASURED_HEAD_EPOCHS = 10
# The params that the head is measured with.
TRAIN = Train(dropout=0.5, learning_rate=0.001, batch_size=32, epochs=1, patience=1, class_weights="balanced", seed=1)


@dataclass(frozen=True)
class Measured:
    """Seconds: of an epoch of the study on TRAINING + VALIDATION images, of our features stage on OURS, of the rest."""

    backbone: str
    study_epoch: float
    features: float
    conversion: float
    head_once: float
    head_epoch: float


class Notebook:
    """The recipe: its datasets, and its model, compiled."""

    def __init__(self, name: str, photographs: pd.DataFrame, training: int, size: int = 224) -> None:
        """Take the first `training` photographs to train on, and the others for validation."""
        import keras

        paths = photographs["path"].tolist()
        labels = [number % CLASSES for number in range(len(paths))]
        self.training = make_dataset(paths[:training], labels[:training], size)
        self.validation = make_dataset(paths[training:], labels[training:], size)
        self.model = build_model(keras, name, size)
        self._stopping = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)

    def epoch(self) -> None:
        """Train an epoch and validate; as many images of each class make all class weights one."""
        self.model.fit(
            self.training,
            validation_data=self.validation,
            class_weight=dict.fromkeys(range(CLASSES), 1.0),
            callbacks=[self._stopping],
            verbose=0,
        )


def make_dataset(paths: list[str], labels: list[int], size: int) -> Any:
    """Return batches of 32 decoded and resized images, with their labels, prefetched."""
    import tensorflow as tf

    def load(path: Any, label: Any) -> tuple[Any, Any]:
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.image.resize(image, (size, size)), label

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    return dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(32).prefetch(tf.data.AUTOTUNE)


def build_model(keras: Any, name: str, size: int) -> Any:
    """Return the study's model, compiled: augmentation, frozen network with random weights, and head."""
    function = getattr(keras.applications, name)
    network = function(include_top=False, weights=None, input_shape=(size, size, 3))
    network.trainable = False
    inputs = keras.Input((size, size, 3))
    augmented = keras.layers.RandomFlip("horizontal_and_vertical")(inputs)
    augmented = keras.layers.RandomRotation(0.3)(augmented)
    augmented = keras.layers.RandomZoom(0.2)(augmented)
    features = network(keras.layers.Rescaling(1 / 127.5, offset=-1)(augmented), training=False)
    pooled = keras.layers.GlobalAveragePooling2D()(features)
    outputs = keras.layers.Dense(CLASSES, activation="softmax")(keras.layers.Dropout(0.3)(pooled))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.001), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def epoch(notebook: Notebook) -> None:
    """Train an epoch."""
    notebook.epoch()


def head_seconds(folder: Path, dim: int, images: int = IMAGES) -> tuple[float, float]:
    """Return the seconds of an epoch of our head on made-up features, and of what happens once, all imports included.

    The second is what training for one epoch takes beyond an epoch.
    """
    write_made_up(folder, dim, images)
    start = time.perf_counter()
    keras = start_keras(seed=0)
    features = FeatureReader(folder)
    started = time.perf_counter() - start
    table = pd.DataFrame({"row": np.arange(images), "target": np.arange(images) % CLASSES})
    seconds = []
    for epochs in (1, 1 + MEASURED_HEAD_EPOCHS):
        train = TRAIN.model_copy(update={"epochs": epochs, "patience": epochs})
        part = table[: images * 4 // 5], table[images * 4 // 5 :]
        seconds.append(timed(partial(train_head, keras, features, *part, CLASSES, train)))
    an_epoch = (seconds[1] - seconds[0]) / MEASURED_HEAD_EPOCHS
    return an_epoch, started + seconds[0] - an_epoch


def write_made_up(folder: Path, dim: int, images: int) -> None:
    """Write a data/features of made-up numbers."""
    names = [f"ISIC_{number:07d}" for number in range(images)]
    index = pd.DataFrame({"image_id": names, "sha256": "0" * 64})
    info = made_up_info(AUGMENTATION, dim, images, VIEWS)
    labels = pd.Series(np.arange(images) % CLASSES).astype(str)
    write_features(folder, info, index, learnable_features(labels, dim, signal=0.15))


def measure() -> dict[str, list[Row]]:
    """Return what was measured, and what that makes at HAM10000's size, for each backbone."""
    with TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder), TRAINING + VALIDATION)
        measured = [measure_backbone(make_backbone(name), photographs, Path(folder) / name) for name in BACKBONES]
    titles = {
        "study_epoch": f"the study's epoch, {TRAINING} + {VALIDATION} images (s)",
        "features": f"our features, {OURS} images, {VIEWS} views (s)",
        "conversion": "our backbone stage (s)",
        "head_once": "our head, once (s)",
        "head_epoch": f"our head, an epoch of {IMAGES:,} images (s)",
    }
    return {
        "The original study and ours, measured": [
            {"backbone": row.backbone} | {title: getattr(row, name) for name, title in titles.items()}
            for row in measured
        ],
        f"The original study and ours, extrapolated to {IMAGES:,} images": [extrapolate(row) for row in measured],
    }


def measure_backbone(backbone: BackboneFolder, photographs: pd.DataFrame, work: Path) -> Measured:
    """Return the seconds of an epoch of the recipe, and of each part of our own run."""
    with ExitStack() as stack:
        notebook = stack.enter_context(closing(Worker(Notebook, backbone.name, photographs, TRAINING)))
        stage = stack.enter_context(closing(Worker(Stage, backbone.path, photographs[:OURS], work / "store")))
        turns = {"epoch": partial(notebook.call, epoch), "stage": partial(stage.call, whole)}
        alternate(turns, rounds=1)  # to trace and warm up
        seconds = alternate(turns, ROUNDS)
    with closing(Worker(head_seconds, work / "features", read_backbone_info(backbone.path).dim)) as head:
        head_epoch, head_once = head.loaded()
    return Measured(
        backbone=backbone.name,
        study_epoch=median(seconds["epoch"]),
        features=median(seconds["stage"]),
        conversion=backbone.seconds,
        head_once=head_once,
        head_epoch=head_epoch,
    )


def extrapolate(measured: Measured) -> Row:
    """Return the hours of both at HAM10000's size: all but the conversion and the head is in proportion to images."""
    study = EPOCHS * measured.study_epoch * IMAGES / (TRAINING + VALIDATION)
    features = measured.features * IMAGES / OURS
    head = measured.head_once + HEAD_EPOCHS * measured.head_epoch
    ours = measured.conversion + features + head
    return {
        "backbone": measured.backbone,
        f"the study, {EPOCHS} epochs (h)": study / 3600,
        "ours (h)": ours / 3600,
        "of that, backbone (h)": measured.conversion / 3600,
        "of that, features (h)": features / 3600,
        f"of that, head, {HEAD_EPOCHS} epochs (h)": head / 3600,
        "times faster": study / ours,
    }
