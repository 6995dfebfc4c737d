"""The trained head: what turns the feature of an image into class probabilities."""

import json
import zipfile
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stages.common.backbones import BACKBONE, BackboneInfo
from stages.common.errors import DataError
from stages.common.params import Augmentation

HEAD = Path("models/head.keras")
HEAD_INFO = Path("models/head.json")


class HeadInfo(BaseModel):
    """models/head.json: the classes by output, and what made the features that the head was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: list[str]
    backbone: str
    augmentation: Augmentation


def build_head(
    keras: Any, mean: NDArray[np.float64], variance: NDArray[np.float64], dropout: float, classes: int
) -> Any:
    """Return a keras.Model from features (batch, dim) to probabilities (batch, classes).

    Normalization comes first because features differ in scale from backbone to backbone by orders of magnitude.
    """
    return keras.Sequential(
        [
            keras.Input((len(mean),), name="features"),
            keras.layers.Normalization(mean=mean.astype(np.float32), variance=variance.astype(np.float32)),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(classes, activation="softmax", name="probabilities"),
        ],
        name="head",
    )


def save_head(head: Any, path: Path) -> None:
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


def load_head(keras: Any, head: Path = HEAD, info: Path = HEAD_INFO) -> tuple[Any, HeadInfo]:
    """Return the trained head, loaded in Keras' safe mode, and its description.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    try:
        return (
            keras.models.load_model(head, compile=False, safe_mode=True),
            HeadInfo.model_validate_json(info.read_text(encoding="utf-8")),
        )
    except Exception as error:  # Keras raises TypeError, KeyError, BadZipFile and more, as the fault will have it
        reason = shorten(str(error), 200, placeholder=" ...")
        raise DataError(f"no trained head can be read from {head} and {info} ({reason}): run dvc repro train") from None


def predict_probabilities(keras: Any, head: Any, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return class probabilities, (n, classes), for features, (n, dim).

    The model is called, not `predict`ed: on the OpenVINO backend that is what computes in full float32.
    """
    return np.asarray(keras.ops.convert_to_numpy(head(features, training=False)))


def require_same_backbone(head: HeadInfo, backbone: BackboneInfo) -> None:
    """Raise a DataError if the head was trained on the features of another backbone."""
    if head.backbone != backbone.fingerprint:
        raise DataError(f"{HEAD} was trained on another backbone than {BACKBONE} holds: run dvc repro")
