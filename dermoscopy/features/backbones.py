"""Backbones of keras.applications as one model: preprocessing, network, global average pooling."""

import hashlib
import json
import sys
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from stages.common.errors import BackboneError

BACKBONE = Path("models/backbone")


class BackboneInfo(BaseModel):
    """models/backbone/backbone.json: what the files beside it are.

    `fingerprint` is a SHA-256 over the name, the image size, the preprocessing and the weights: equal fingerprints
    mean equal features. `dim` is how many numbers the feature of an image has. `files` holds the SHA-256 of each file
    beside it: DVC trusts its cache, and a file in there that was damaged comes back without a word.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    image_size: int
    dim: int
    fingerprint: str
    files: dict[str, str]


def read_backbone_info(folder: Path = BACKBONE) -> BackboneInfo:
    """Return the description of the backbone in a folder; a BackboneError if there is none."""
    try:
        return BackboneInfo.model_validate_json((folder / "backbone.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BackboneError(f"{folder} holds no backbone ({error}): run dvc repro backbone") from None


def hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 (hexadecimal) of each file in a folder, by name."""
    digests = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digests[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def require_intact(folder: Path) -> None:
    """Raise a BackboneError unless the files of a backbone are those that the backbone stage wrote."""
    info = read_backbone_info(folder)
    found = hash_files(folder)
    for name, digest in info.files.items():
        if found.get(name) != digest:
            raise BackboneError(
                f"{folder / name} is damaged or missing: run dvc repro backbone, or, where DVC sees no change, "
                "dvc repro --force --single-item backbone"
            )


def available_backbones(keras: Any) -> list[str]:
    """Return the names of the image backbones of keras.applications."""
    return sorted(name for name in dir(keras.applications) if callable(getattr(keras.applications, name)))


def build_backbone(keras: Any, name: str, weights: str | None, image_size: int) -> Any:
    """Return a frozen keras.Model: RGB images (batch, image_size, image_size, 3), 0 to 255, to features (batch, dim).

    Args:
        keras: the module, started.
        name: a function of keras.applications.
        weights: None draws them at random; else what that function takes: "imagenet", or the path of a file for the
            network without its top.
        image_size: pixels on both sides.

    Raises:
        BackboneError: there is no such network, or it does not go with this size or these weights.
    """
    if name not in available_backbones(keras):
        raise BackboneError(
            f"backbone.name = {name!r} is not in keras.applications: allowed is "
            + ", ".join(available_backbones(keras))
        )
    if name.startswith("EfficientNetB") and weights not in (None, "imagenet"):
        # keras.applications gives these a layer of their own for its weights, but not for those of a file
        raise BackboneError(
            f"{name} takes imagenet or random weights only: choose an EfficientNetV2 for a weights file"
        )
    function = getattr(keras.applications, name)
    try:
        network = function(include_top=False, weights=weights, input_shape=(image_size, image_size, 3))
    except ValueError as error:
        raise BackboneError(
            f"backbone {name} with weights {weights} and image_size {image_size}: {shorten(str(error), 200)}"
        ) from None
    inputs = keras.Input((image_size, image_size, 3), name="image")
    preprocess = sys.modules[function.__module__].preprocess_input
    kernel, bias = affine_preprocessing(preprocess)
    preprocessing = keras.layers.Conv2D(3, 1, name="preprocessing")
    features = keras.layers.GlobalAveragePooling2D(name="pooling")(network(preprocessing(inputs), training=False))
    preprocessing.set_weights([kernel[None, None], bias])
    # a list, because OpenVINO's converter calls the model with one
    model = keras.Model([inputs], features, name="backbone")
    model.trainable = False
    return model


def affine_preprocessing(preprocess_input: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return `preprocess_input` of a keras.applications module as (3, 3) kernel and (3,) bias: x @ kernel + bias.

    All of them scale, shift or reorder the channels of a pixel, nothing else. As a 1 x 1 convolution this is part of
    every saved form of the model, without code of its own. Read off at black and at the three primary colours.

    Raises:
        BackboneError: the function is not affine in the pixel after all.
    """
    probes = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)]).astype(np.float32)
    black, *colours = np.asarray(preprocess_input(probes.reshape(4, 1, 1, 3).copy())).reshape(4, 3).astype(np.float64)
    kernel = (np.stack(colours) - black) / 255
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 8, 8, 3)).astype(np.float32)
    if not np.allclose(preprocess_input(pixels.copy()), pixels @ kernel + black, rtol=1e-5, atol=1e-3):
        raise BackboneError(f"{preprocess_input.__module__}.preprocess_input is not affine in the pixel")
    return kernel.astype(np.float32), black.astype(np.float32)


def fingerprint(model: Any, name: str, image_size: int) -> str:
    """Return the SHA-256 (hexadecimal) of what decides the features: name, size, layers and every weight of `model`."""
    layers = [type(layer).__name__ for layer in model._flatten_layers()]
    digest = hashlib.sha256(json.dumps([name, image_size, layers]).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def save_backbone(model: Any, folder: Path) -> None:
    """Write architecture and weights of a backbone into a folder, the same bytes for the same model."""
    (folder / "architecture.json").write_text(model.to_json(), encoding="utf-8")
    model.save_weights(folder / "backbone.weights.h5")


def load_backbone(keras: Any, folder: Path = BACKBONE) -> Any:
    """Return the Keras model that `save_backbone` wrote; a BackboneError if there is none."""
    require_intact(folder)
    try:
        # in safe mode, which is the default of this function though not of every one
        model = keras.models.model_from_json((folder / "architecture.json").read_text(encoding="utf-8"))
        model.load_weights(folder / "backbone.weights.h5")
    except Exception as error:  # Keras and h5py raise what the fault of a file will have
        reason = shorten(str(error), 200, placeholder=" ...")
        raise BackboneError(f"{folder} holds no backbone that can be read ({reason}): run dvc repro backbone") from None
    return model
