"""The exported classifier as one file: for Keras, ONNX or TFLite.

Each holds a description, which can be read without the model: an entry `about.json` of the zip file that a Keras file
is and a TFLite file ends with, and the metadata `about` of an ONNX file. For Keras and TFLite the same model makes the
same bytes; the ONNX converter numbers its names at random. Imports Keras: call `start_keras` first.
"""

import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np

from dermoscopy.runtime.keras_start import quiet_stderr

ABOUT = "about.json"
# arguments of layers: what is of use to training only, some of it of newer kinds, and what came after Keras 3.6
_FOR_TRAINING = ("_initializer", "_regularizer", "_constraint")
_NEWER = {"renorm", "renorm_clipping", "renorm_momentum", "quantization_config", "ragged"}


def write_keras(model: keras.Model, about: dict[str, Any], path: Path) -> None:
    """Write a model of `build_exported` as a file that Keras 3.6 and later load."""
    model.save(path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    config = json.loads(entries["config.json"])
    metadata = json.loads(entries["metadata.json"])
    del metadata["date_saved"]
    entries["config.json"] = json.dumps(for_older_keras(config)).encode()
    entries["metadata.json"] = json.dumps(metadata).encode()
    entries[ABOUT] = _in_json(about).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(zipfile.ZipInfo(name), content)  # without the time


def for_older_keras(config: Any) -> Any:
    """Return the config of a model without what Keras 3.6 refuses; nothing of it matters to a trained model."""
    if isinstance(config, list):
        return [for_older_keras(part) for part in config]
    if not isinstance(config, dict):
        return config
    config = {
        key: for_older_keras(value)
        for key, value in config.items()
        if key not in _NEWER and not key.endswith(_FOR_TRAINING)
    }
    if str(config.get("module")).startswith("keras.src.ops."):
        config["config"].pop("name")  # an operation had its name beside its config only
    return config


def write_onnx(model: keras.Model, about: dict[str, Any], path: Path) -> None:
    """Write a model of `build_exported` as ONNX; images are uint8, of any number and size."""
    import onnx
    import tensorflow as tf
    import tf2onnx
    from onnx.tools.update_model_dims import update_inputs_outputs_dims

    signature = _signature(model)
    function = tf.function(_serving(for_converters(model)), input_signature=signature, autograph=False)
    with quiet_stderr():
        converted, _ = tf2onnx.convert.from_function(
            function, input_signature=signature, custom_op_handlers={"Erfc": (_erfc, [])}
        )
    sizes = {"image": ["batch", "height", "width", 3], "clinical": ["batch", signature[-1].shape[-1]]}
    converted = update_inputs_outputs_dims(
        converted,
        {spec.name: sizes[spec.name] for spec in signature},
        {"probabilities": ["batch", model.output_shape[-1]]},
    )
    converted.producer_name, converted.producer_version = about["project"]["name"], about["project"]["version"]
    converted.doc_string = about["use"]
    converted.metadata_props.add(key="about", value=_in_json(about))
    onnx.save(converted, path)


def write_tflite(model: keras.Model, about: dict[str, Any], path: Path) -> None:
    """Write a model of `build_exported` for TFLite, of its own operations only; images are uint8, of any size."""
    import tensorflow as tf

    with TemporaryDirectory() as folder, quiet_stderr():
        model = for_converters(model)
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", _serving(model), input_signature=_signature(model))
        archive.write_out(folder, verbose=False)
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
    with zipfile.ZipFile(path, "a") as file:  # behind the model, as metadata of TFLite have their files
        file.writestr(zipfile.ZipInfo(ABOUT), _in_json(about))


def _erfc(context: Any, node: Any, _: str, __: list[Any]) -> None:
    """Write TensorFlow's Erfc, which the converter does not know and GELU needs, as 1 - Erf."""
    name = node.output[0]
    types, shapes, inputs = node.output_dtypes, node.output_shapes, node.input
    context.remove_node(node.name)
    one = context.make_const(f"{name}_one", np.array(1, np.float32))
    erf = context.make_node("Erf", [inputs[0]], dtypes=types, shapes=shapes)
    context.make_node("Sub", [one.output[0], erf.output[0]], outputs=[name], dtypes=types, shapes=shapes)


def for_converters(model: keras.Model) -> keras.Model:
    """Return the same model with other layers for those that converters fail on, which ConvNeXt has.

    Keras leaves convolutions with one channel a group to XLA, and a normalization by given numbers holds them outside
    of the graph.
    """

    def is_depthwise(layer: keras.Layer) -> bool:
        return isinstance(layer, keras.layers.Conv2D) and 1 < layer.groups == layer.filters == layer.input.shape[-1]

    def is_given(layer: keras.Layer) -> bool:
        return isinstance(layer, keras.layers.Normalization) and layer.input_mean is not None

    def clone(layer: keras.Layer) -> keras.Layer:
        if is_depthwise(layer):
            kept = ("name", "dtype", "kernel_size", "strides", "padding", "dilation_rate", "use_bias", "activation")
            config = layer.get_config()
            return keras.layers.DepthwiseConv2D(**{key: config[key] for key in kept})
        if is_given(layer):
            mean, deviation = np.asarray(layer.mean).ravel(), np.sqrt(np.asarray(layer.variance)).ravel()
            return keras.layers.Rescaling((1 / deviation).tolist(), (-mean / deviation).tolist(), name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    if not any(is_depthwise(layer) or is_given(layer) for layer in model._flatten_layers(include_self=False)):
        return model
    cloned = keras.models.clone_model(model, clone_function=clone, recursive=True)
    cloned.set_weights(
        [
            np.swapaxes(weight, 2, 3) if weight.shape != new.shape else weight
            for weight, new in zip(model.get_weights(), cloned.weights, strict=True)
        ]
    )
    return cloned


def _serving(model: keras.Model) -> Any:
    """Return a function for TensorFlow of the model's inputs, by their names."""

    def serve(image: Any, clinical: Any = None) -> dict[str, Any]:
        inputs = image if clinical is None else {"image": image, "clinical": clinical}
        return {"probabilities": model(inputs, training=False)}

    return serve


def _signature(model: keras.Model) -> list[Any]:
    """Return what that function takes, as TensorFlow describes it."""
    import tensorflow as tf

    inputs = {tensor.name: tensor.shape for tensor in model.inputs}
    types = {"image": tf.uint8, "clinical": tf.float32}
    return [tf.TensorSpec(inputs[name], kind, name=name) for name, kind in types.items() if name in inputs]


def _in_json(about: dict[str, Any]) -> str:
    return json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
