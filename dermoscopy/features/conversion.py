"""The conversion of a backbone for OpenVINO where Keras does not run on TensorFlow: in a process where it does."""

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from dermoscopy.runtime.children import end_with_parent
from dermoscopy.runtime.environment import forbid_telemetry
from dermoscopy.runtime.errors import BackboneError
from dermoscopy.runtime.keras_start import start_keras


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
    from dermoscopy.features.networks import convert_to_openvino, read_keras_files

    convert_to_openvino(read_keras_files(folder), folder / "backbone.xml")
