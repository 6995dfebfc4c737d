"""Make the frozen backbone ready: build it once with its weights, and convert it for the OpenVINO engine."""

import errno
import os
import warnings
from pathlib import Path
from textwrap import shorten
from typing import Any

from stages.common.backbones import BACKBONE, BackboneInfo, build_backbone, fingerprint, hash_files, save_backbone
from stages.common.errors import BackboneError, run
from stages.common.files import replacing, user_path
from stages.common.keras_runtime import start_keras
from stages.common.params import Backbone, load_params, require_unchanged


def main() -> None:
    backbone = load_params().backbone
    weights = find_weights(backbone.weights)
    keras = start_keras(backbone.seed)
    model = build(keras, backbone, weights)
    weights_bytes = 4 * model.count_params()
    with replacing(BACKBONE, size=2 * weights_bytes) as folder:  # Keras' form and OpenVINO's
        folder.mkdir()
        info = write_backbone(model, backbone.name, folder)
    require_unchanged(backbone)
    print(f"backbone: {info.name}, {backbone.weights} weights, {info.dim} features an image")


def find_weights(weights: str) -> str | None:
    """Return what keras.applications takes for backbone.weights: "imagenet", None (random), or an absolute path."""
    if weights in ("imagenet", "random"):
        return "imagenet" if weights == "imagenet" else None
    path = user_path(weights)
    if not path.is_file():
        raise BackboneError(
            f"backbone.weights is {weights}: allowed is imagenet, random, or a file, and {path} is none"
        )
    return str(path)


def build(keras: Any, backbone: Backbone, weights: str | None) -> Any:
    """Return the model; a BackboneError says what to do where the weights cannot be fetched or do not fit."""
    try:
        with warnings.catch_warnings():
            # Keras only warns where a file lacks the weights of some layers, and leaves those at random
            warnings.filterwarnings("error", "Skipping nested container")
            return build_backbone(keras, backbone.name, weights, backbone.image_size)
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


def write_backbone(model: Any, name: str, folder: Path) -> BackboneInfo:
    """Fill an empty folder with a backbone, for Keras and for OpenVINO, and its description; return that."""
    save_backbone(model, folder)
    convert_to_openvino(model, folder / "backbone.xml")
    size = model.input_shape[1]
    info = BackboneInfo(
        name=name,
        image_size=size,
        dim=model.output_shape[-1],
        fingerprint=fingerprint(model, name, size),
        files=hash_files(folder),
    )
    (folder / "backbone.json").write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return info


def convert_to_openvino(model: Any, path: Path) -> None:
    """Write the model as OpenVINO IR, one image a request, in full float32."""
    import openvino
    from openvino.frontend.tensorflow import utils

    # On Python 3.13 an `exec("del tensorflow")` in there raises NameError (PEP 667); all that it executes is the import
    # of TensorFlow, which has happened.
    utils.exec = lambda statement: None
    size = model.input_shape[1]
    converted = openvino.convert_model(model, input=[1, size, size, 3])
    try:
        openvino.save_model(converted, path, compress_to_fp16=False)
    except RuntimeError:  # OpenVINO does not say why it cannot write; before this, the weights could be written here
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None


if __name__ == "__main__":
    run(main)
