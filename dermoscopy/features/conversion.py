"""The conversion of a backbone for OpenVINO; where Keras does not run on TensorFlow, in a process where it does."""

import errno
import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from dermoscopy.runtime.children import end_with_parent
from dermoscopy.runtime.environment import forbid_telemetry
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.keras_start import start_keras


def convert_to_openvino(model: Any, path: Path) -> None:
    """Write a keras.Model on TensorFlow as OpenVINO IR, one image a request, in full float32."""
    import openvino
    from openvino.frontend.tensorflow import utils
    from openvino.frontend.tensorflow.node_decoder import TFGraphNodeDecoder

    # On Python 3.13 an `exec("del tensorflow")` in there raises NameError (PEP 667); all that it executes is the import
    # of TensorFlow, which has happened.
    utils.exec = lambda statement: None
    size = model.input_shape[1]
    # The converter asks for the value of each weight eleven times, and looks through all weights each time: of
    # InceptionResNetV2, 6 of 11 s.
    find_variable = TFGraphNodeDecoder.get_variable
    TFGraphNodeDecoder.get_variable = staticmethod(cache(find_variable))
    try:
        converted = openvino.convert_model(model, input=[1, size, size, 3])
    finally:
        TFGraphNodeDecoder.get_variable = staticmethod(find_variable)
    for number, operation in enumerate(converted.get_ordered_ops()):
        # their own names count what the process has converted before, and the same model must give the same bytes
        operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    try:
        openvino.save_model(converted, path, compress_to_fp16=False)
    except RuntimeError:  # OpenVINO does not say why it cannot write; before this, the weights could be written here
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None


def convert_elsewhere(folder: Path) -> None:
    """Write OpenVINO's form of a backbone beside its Keras files, which must be in the folder.

    Raises:
        BackboneError: the process was killed.
        OSError: the files cannot be written.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent) as process:
            process.submit(_convert, folder.resolve()).result()
    except BrokenProcessPool:
        raise BackboneError(
            "the process that converts the backbone for OpenVINO was killed, perhaps for want of memory: free some "
            "and run again"
        ) from None


def _convert(folder: Path) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # the memory of the GPU belongs to the process that waits
    forbid_telemetry()
    start_keras(seed=0)
    from dermoscopy.features.networks import read_keras_files

    convert_to_openvino(read_keras_files(folder), folder / "backbone.xml")
