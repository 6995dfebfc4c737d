"""The networks of keras.applications as backbones: one model of preprocessing, network and global average pooling.

Imports Keras: call `start_keras` first.
"""

import hashlib
import json
import math
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.backbones import KERAS_FILES, BackboneInfo, hash_files, require_intact, stage_of
from dermoscopy.features.conversion import convert_elsewhere, convert_to_openvino
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.params import Backbone

Form = Literal["keras", "openvino"]

# Of the last maps at several sizes, when they are repeated to one size: 80 x 80 x 3072 float32 are 79 MB an image.
MOST_PLACES = 80


def available_backbones() -> list[str]:
    """Return the names of the image backbones of keras.applications."""
    return sorted(name for name in dir(keras.applications) if callable(getattr(keras.applications, name)))


def build_backbone(name: str, weights: str | None, image_size: int | list[int]) -> keras.Model:
    """Return a frozen keras.Model: RGB images (batch, side, side, 3), 0 to 255, to features (batch, dim).

    Of several sizes, the features of each stand one behind the other, as they would be of images averaged down to it.

    Args:
        name: a function of keras.applications.
        weights: None draws them at random; else what that function takes: "imagenet", or the path of a file for the
            network without its top.
        image_size: pixels on both sides; or several sizes, rising, each of which divides the last, which is the side.

    Raises:
        BackboneError: there is no such network, or it does not support these sizes or these weights.
    """
    if name not in available_backbones():
        raise BackboneError(
            f"backbone.name = {name!r} is not in keras.applications; it must be one of "
            + ", ".join(available_backbones())
        )
    if name.startswith("EfficientNetB") and weights not in (None, "imagenet"):
        # keras.applications gives these a layer of their own for its weights, but not for those of a file
        raise BackboneError(
            f"{name} takes imagenet or random weights only: choose an EfficientNetV2 for a weights file"
        )
    function = getattr(keras.applications, name)
    side = image_size if isinstance(image_size, int) else image_size[-1]
    shape = (side, side, 3) if isinstance(image_size, int) else (None, None, 3)
    try:
        network = function(include_top=False, weights=weights, input_shape=shape)
    except ValueError as error:
        raise BackboneError(
            f"backbone {name} with weights {weights} and image_size {image_size}: {shorten(str(error), 200)}"
        ) from None
    inputs = keras.Input((side, side, 3), name="image")
    preprocess = sys.modules[function.__module__].preprocess_input
    kernel, bias = affine_preprocessing(preprocess)
    preprocessing = keras.layers.Conv2D(3, 1, name="preprocessing")
    pixels = preprocessing(inputs)
    maps = network(pixels, training=False) if isinstance(image_size, int) else maps_at(image_size, network, pixels)
    features = keras.layers.GlobalAveragePooling2D(name="pooling")(maps)
    preprocessing.set_weights([kernel[None, None], bias])
    # a list, because OpenVINO's converter calls the model with one
    model = keras.Model([inputs], features, name="backbone")
    model.trainable = False
    return model


def maps_at(sizes: list[int], network: keras.Model, pixels: keras.KerasTensor) -> keras.KerasTensor:
    """Return the last maps at several sizes, one behind the other: each repeated to the places that all can have.

    The mean over all places of a map that is repeated a whole number of times is the mean of the map.

    Args:
        sizes: rising, each divides the last.
        network: takes images of any size.
        pixels: images of the last size.

    Raises:
        BackboneError: the network does not take images of one of these sizes, or its maps have no places in common.
    """
    maps = []
    for size in sizes:
        averaged = keras.layers.AveragePooling2D(sizes[-1] // size, name=f"image_{size}")(pixels)
        try:
            maps.append(network(averaged, training=False))
        except ValueError:  # Keras' message is about one layer inside
            raise BackboneError(
                f"backbone.image_size = {sizes}: this network cannot be run at {size} pixels beside other sizes: "
                "choose larger sizes, a single one, or another backbone.name"
            ) from None
    sides = [of_size.shape[1] for of_size in maps]
    places = math.lcm(*sides)
    if places > MOST_PLACES:
        raise BackboneError(
            f"backbone.image_size = {sizes}: the last maps of this network have {' and '.join(map(str, sides))} places "
            f"a side, and {places} in common, where at most {MOST_PLACES} are allowed: choose other sizes, such as "
            "[224, 448]"
        )
    repeated = [
        keras.layers.UpSampling2D(places // side, name=f"maps_{size}")(of_size)
        for size, side, of_size in zip(sizes, sides, maps, strict=True)
    ]
    return keras.layers.Concatenate(name="maps")(repeated)


def network_of(backbone: keras.Model) -> keras.Model:
    """Return the network of keras.applications that is in a backbone."""
    return next(layer for layer in backbone.layers if isinstance(layer, keras.Model))


def image_size_of(backbone: keras.Model) -> int | list[int]:
    """Return the image size that `build_backbone` was given."""
    sizes = [layer.output.shape[1] for layer in backbone.layers if isinstance(layer, keras.layers.AveragePooling2D)]
    return sizes or backbone.input_shape[1]


def affine_preprocessing(
    preprocess_input: Callable[[Any], Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
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


class Cut(NamedTuple):
    """A backbone in two: what stays frozen, and what learns.

    Attributes:
        trunk: from images to the maps at the cut; None where images go through the whole backbone.
        top: from these maps, or from images, to features; it shares its layers with the backbone.
        name: of the last layer of the trunk; empty where there is none.
        layers: how many learn.
    """

    trunk: keras.Model | None
    top: keras.Model
    name: str
    layers: int


def cut_backbone(backbone: keras.Model, layers: int | Literal["all"]) -> Cut:
    """Cut a backbone below its `layers` top layers, or lower: where everything passes through one layer.

    The layers above become trainable, all others frozen. Where no such place is left, or images are run at several
    sizes, there is no trunk.
    """
    network = network_of(backbone)
    count = len(network.layers) if layers == "all" else min(layers, len(network.layers))
    several = isinstance(image_size_of(backbone), list)
    for place in range(0 if several else len(network.layers) - 1 - count, 0, -1):
        last = network.layers[place]
        try:
            above = keras.Model(last.output, network.output)
        except ValueError:  # something above also depends on another layer below
            continue
        maps = keras.Input(last.output.shape[1:], name="maps")
        pooling = backbone.get_layer("pooling")
        top = keras.Model(maps, pooling(above(maps, training=False)), name="top")
        below = keras.Model(network.input, last.output)
        trunk = keras.Model(backbone.inputs, below(backbone.get_layer("preprocessing").output), name="trunk")
        _train_only(backbone, network.layers[place + 1 :])
        return Cut(trunk, top, last.name, len(network.layers) - 1 - place)
    _train_only(backbone, network.layers[-count:])
    return Cut(None, backbone, "", count)


def _train_only(backbone: keras.Model, learning: Sequence[keras.layers.Layer]) -> None:
    """Make these layers trainable, and no other."""
    backbone.trainable = True  # of a model that is frozen, no layer is trained
    for layer in backbone.layers:
        for inner in layer.layers if isinstance(layer, keras.Model) else [layer]:
            inner.trainable = inner in learning


def fingerprint(model: keras.Model, name: str, image_size: int | list[int]) -> str:
    """Return the SHA-256 (hexadecimal) of what decides the features: name, size, layers and every weight of `model`."""
    layers = [type(layer).__name__ for layer in model._flatten_layers()]
    digest = hashlib.sha256(json.dumps([name, image_size, layers]).encode())
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def save_keras_files(model: keras.Model, folder: Path) -> None:
    """Write architecture and weights of a backbone into a folder, the same bytes for the same model."""
    (folder / "architecture.json").write_text(model.to_json(), encoding="utf-8")
    model.save_weights(folder / "backbone.weights.h5")


def load_backbone(folder: Path) -> keras.Model:
    """Return the Keras model that `write_backbone` wrote; a BackboneError if there is none."""
    require_intact(folder, KERAS_FILES)
    try:
        return read_keras_files(folder)
    except Exception as error:  # Keras and h5py raise many kinds of errors
        reason = shorten(str(error), 200, placeholder=" ...")
        raise BackboneError(f"{folder} cannot be read ({reason}): run dvc repro {stage_of(folder)}") from None


def read_keras_files(folder: Path) -> keras.Model:
    """Return the model that `save_keras_files` wrote; its errors are of Keras and h5py, of many kinds."""
    # in safe mode, which is the default of this function though not of every one
    model = keras.models.model_from_json((folder / "architecture.json").read_text(encoding="utf-8"))
    model.load_weights(folder / "backbone.weights.h5")
    return model


def use_bfloat16(backbone: keras.Model) -> None:
    """Let the layers of the network compute in bfloat16; all preprocessing, and pooling, a mean, stay in float32."""
    preprocessing = (keras.layers.Rescaling, keras.layers.Normalization)
    for layer in network_of(backbone)._flatten_layers(include_self=False):  # those in layers too, by no public name
        if not isinstance(layer, preprocessing):
            layer.dtype_policy = "mixed_bfloat16"


def build_from_params(backbone: Backbone, weights: str | None) -> keras.Model:
    """Return the backbone of the params with what `find_weights` found.

    Raises:
        BackboneError: the weights cannot be fetched or do not fit; the message says what to do.
    """
    try:
        with warnings.catch_warnings():
            # Keras only warns where a file lacks the weights of some layers, and leaves those at random
            warnings.filterwarnings("error", "Skipping nested container")
            return build_backbone(backbone.name, weights, backbone.image_size)
    except BackboneError:
        raise
    except Exception as error:  # Keras raises bare Exception for a failed download, and h5py many kinds of its own
        if weights == "imagenet":
            raise BackboneError(
                f"the ImageNet weights of {backbone.name} cannot be fetched: {error}; fetch that file elsewhere and "
                "set backbone.weights to its path, or set backbone.weights=random to try the pipeline out"
            ) from None
        reason = shorten(str(error), 200, placeholder=" ...")  # Keras goes on to list every layer
        raise BackboneError(f"backbone.weights {weights} do not fit {backbone.name}: {reason}") from None


def write_backbone(
    model: keras.Model, name: str, folder: Path, forms: Collection[Form] = ("keras", "openvino")
) -> BackboneInfo:
    """Fill an empty folder with a backbone and its description, which is returned.

    Args:
        model: the backbone, or a part of it.
        name: of the network.
        folder: to fill.
        forms: what to write it for. Where Keras does not run on TensorFlow, OpenVINO's is made from Keras'.
    """
    if "keras" in forms:
        save_keras_files(model, folder)
    if "openvino" in forms:
        if keras.config.backend() == "tensorflow":
            convert_to_openvino(model, folder / "backbone.xml")
        else:
            convert_elsewhere(folder)
    size = image_size_of(model)
    info = BackboneInfo(
        name=name,
        image_size=size,
        dim=model.output_shape[-1],
        fingerprint=fingerprint(model, name, size),
        files=hash_files(folder),
    )
    (folder / "backbone.json").write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return info
