"""The head: what turns the features of an image into class probabilities.

Imports Keras: call `start_keras` first.
"""

import json
import zipfile
from pathlib import Path
from textwrap import shorten

import keras
import numpy as np
from numpy.typing import NDArray

from dermoscopy.model.head_info import HeadInfo, read_head_info
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import HEAD, HEAD_INFO


def build_head(mean: NDArray[np.float64], variance: NDArray[np.float64], dropout: float, classes: int) -> keras.Model:
    """Return a keras.Model from features (batch, dim) to probabilities (batch, classes).

    Normalization comes first because features differ in scale from backbone to backbone by orders of magnitude.
    """
    return keras.Sequential(
        [
            keras.Input((len(mean),), name="features"),
            keras.layers.Normalization(
                mean=mean.astype(np.float32), variance=variance.astype(np.float32), name="normalization"
            ),
            keras.layers.Dropout(dropout, name="dropout"),
            keras.layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="head",
    )


def save_head(head: keras.Model, path: Path) -> None:
    """Write the head as a Keras file, the same bytes for the same head.

    What Keras writes holds the time of day and, as "shared_object_id", addresses in memory that nothing needs.
    """
    head.save(path)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    passing = {"date_saved", "shared_object_id"}
    for name in ("metadata.json", "config.json"):
        content = json.loads(members[name], object_hook=lambda pairs: {k: pairs[k] for k in pairs if k not in passing})
        members[name] = json.dumps(content).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(zipfile.ZipInfo(name), content)  # dated 1980


def load_head(head: Path = HEAD, info: Path = HEAD_INFO) -> tuple[keras.Model, HeadInfo]:
    """Return the trained head, loaded in Keras' safe mode, and its description.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    described = read_head_info(info)
    return load_keras_head(head), described


def load_keras_head(head: Path) -> keras.Model:
    """Return a head that `save_head` wrote, loaded in Keras' safe mode; a DataError if it cannot be read."""
    try:
        return keras.models.load_model(head, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises TypeError, KeyError, BadZipFile and more
        reason = shorten(str(error), 200, placeholder=" ...")
        raise DataError(f"no trained head can be read from {head} ({reason}): run dvc repro train") from None


def predict_probabilities(head: keras.Model, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return class probabilities, (n, classes), for features, (n, dim).

    The model is called, not `predict`ed: on the OpenVINO backend that is what computes in full float32.
    """
    return np.asarray(keras.ops.convert_to_numpy(head(features, training=False)))
