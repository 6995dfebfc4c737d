"""The original study's recipe, as a notebook runs it, against our own first full run, in turns on one machine.

The study trains a head on a frozen InceptionResNetV2 inside `fit`: every epoch decodes, resizes and augments all images
anew and runs them through the whole network. It stopped after nine epochs. Neither is run in full here: an epoch of the
study and our stages are measured on a small part of the images, and extrapolated to HAM10000.
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

from benchmarks.features_stage import AUGMENTATION, VIEWS, Stage, run_whole_stage
from benchmarks.inputs import BackboneFolder, draw_photographs, make_backbone
from benchmarks.made_up import learnable_features, made_up_info, write_made_up_features
from benchmarks.timing import Row, alternate, timed
from benchmarks.workers import Worker
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.training import train_head
from dermoscopy.runtime.params import Train

IMAGES = 10_015
CLASSES = 7
EPOCHS = 9
TRAINING, VALIDATION = 128, 32  # images of an epoch of the study that is measured
OURS = 24  # images of a turn of our features stage
ROUNDS = 2
BACKBONES = ("InceptionResNetV2", "DenseNet121")
HEAD_EPOCHS = 150  # `train.epochs` of params.yaml, as if training never stopped early
MEASURED_HEAD_EPOCHS = 10
# params of the head that is measured
TRAIN = Train(
    dropout=0.5,
    learning_rate=0.001,
    batch_size=32,
    epochs=1,
    patience=1,
    class_weights="balanced",
    clinical=None,
    seed=1,
)


@dataclass(frozen=True)
class Measured:
    """Seconds of each part: the study's epoch is of TRAINING + VALIDATION images, our features of OURS images."""

    backbone: str
    study_epoch: float
    features: float
    conversion: float
    head_once: float
    head_epoch: float


class Notebook:
    """The study's recipe: its datasets, and its model, compiled."""

    def __init__(self, name: str, photographs: pd.DataFrame, training: int, size: int = 224) -> None:
        """Take the first `training` photographs to train on, and the others for validation."""
        import keras

        paths = photographs["path"].tolist()
        labels = [number % CLASSES for number in range(len(paths))]
        self.training = make_dataset(paths[:training], labels[:training], size)
        self.validation = make_dataset(paths[training:], labels[training:], size)
        self.model = build_model(name, size)
        self._stopping = keras.callbacks.EarlyStopping(patience=5, restore_best_weights=True)

    def epoch(self) -> None:
        """Train an epoch and validate; the classes are balanced, so all class weights are one."""
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


def build_model(name: str, size: int) -> Any:
    """Return the study's model, compiled: augmentation, frozen network with random weights, and head."""
    import keras

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


def run_epoch(notebook: Notebook) -> None:
    """Train an epoch of the study."""
    notebook.epoch()


def head_seconds(folder: Path, dim: int, images: int = IMAGES) -> tuple[float, float]:
    """Return the seconds of an epoch of our head on made-up features, and of what happens once but imports."""
    write_made_up(folder, dim, images)
    start = time.perf_counter()
    features = FeatureReader(folder)
    started = time.perf_counter() - start
    table = pd.DataFrame({"row": np.arange(images), "target": np.arange(images) % CLASSES})
    seconds = []
    for epochs in (1, 1 + MEASURED_HEAD_EPOCHS):
        train = TRAIN.model_copy(update={"epochs": epochs, "patience": epochs})
        part = table[: images * 4 // 5], table[images * 4 // 5 :]
        seconds.append(timed(partial(train_head, features, *part, CLASSES, train)))
    an_epoch = (seconds[1] - seconds[0]) / MEASURED_HEAD_EPOCHS
    return an_epoch, started + seconds[0] - an_epoch


def write_made_up(folder: Path, dim: int, images: int) -> None:
    """Write a folder of made-up features.

    The seconds of an epoch depend on the length of the features and not on their values. Those of the two backbones
    have 1,536 and 1,024 numbers; the real weights beside the checkout are MobileNetV2's, which gives 1,280.
    """
    names = [f"ISIC_{number:07d}" for number in range(images)]
    index = pd.DataFrame({"image_id": names, "sha256": "0" * 64})
    info = made_up_info(AUGMENTATION, dim, images, VIEWS)
    labels = pd.Series(np.arange(images) % CLASSES).astype(str)
    write_made_up_features(folder, info, index, learnable_features(labels, dim, signal=0.15))


def measure() -> dict[str, list[Row]]:
    """Return what was measured, and what follows for HAM10000, for each backbone."""
    with TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder), TRAINING + VALIDATION)
        measured = [measure_both(make_backbone(name), photographs, Path(folder) / name) for name in BACKBONES]
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


def measure_both(backbone: BackboneFolder, photographs: pd.DataFrame, work: Path) -> Measured:
    """Return the seconds of an epoch of the study, and of each part of our own run."""
    with ExitStack() as stack:
        notebook = stack.enter_context(closing(Worker(Notebook, backbone.name, photographs, TRAINING)))
        stage = stack.enter_context(closing(Worker(Stage, backbone.path, photographs[:OURS], work / "store")))
        turns = {"epoch": partial(notebook.call, run_epoch), "stage": partial(stage.call, run_whole_stage)}
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
    """Return the hours of both for HAM10000; the study's epoch and our features are in proportion to the images."""
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
