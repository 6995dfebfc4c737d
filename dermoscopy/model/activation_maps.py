"""Class activation maps: which regions of an image raised or lowered the logit of a class.

The feature of an image is the mean of the backbone's last maps over all places, and the head is linear in it, so each
place adds a known part to a logit (Zhou et al., Learning deep features for discriminative localization, CVPR 2016).
Nothing is approximated: the mean of a map, and the bias, are the logit.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.features.backbones import OPENVINO_FILES, require_intact
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.head import Head
from dermoscopy.runtime.errors import BackboneError


def clinical_shifts(head: Head, encoder: ClinicalEncoder) -> pd.DataFrame:
    """Return what each clinical value adds to the logit of each class, beside the mean of all classes.

    What is added to all alike changes no probability. A row a value, by `encoder.names` but for age, of which a row is
    ten years more; a column a class, by its number.
    """
    rows = head.shift(np.eye(len(encoder.names), dtype=np.float32))
    if encoder.age:
        rows[0] *= 10 / encoder.age.deviation
    names = ["age: ten years more" if name == "age" else name for name in encoder.names]
    return pd.DataFrame(rows - rows.mean(axis=1, keepdims=True), index=pd.Index(names))


def heat(activation_map: NDArray[np.float64], height: int, width: int) -> NDArray[np.uint8]:
    """Return a class activation map, (rows, columns), as a picture, (height, width, 3), in the colours of viridis.

    They go from nothing or less (dark blue) to the largest value of the map (yellow); the colour-blind tell them apart.
    """
    values = cv2.resize(activation_map.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    scaled = np.clip(255 * values / max(float(activation_map.max()), 1e-9), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB), np.uint8)


class LastMaps:
    """The backbone with its last maps as an output, in OpenVINO and full float32."""

    def __init__(self, folder: Path) -> None:
        """Load the backbone of a folder; a BackboneError if it is missing or does not end in a mean over all places."""
        import openvino

        require_intact(folder, OPENVINO_FILES)
        core = openvino.Core()
        path = folder / "backbone.xml"
        model = core.read_model(path)
        pooling = model.output(0).get_node().input_value(0).get_node()
        if pooling.get_type_name() != "ReduceMean":
            raise BackboneError(f"{path} ends in {pooling.get_type_name()}, not in a mean: run dvc repro backbone")
        self._places = tuple(pooling.input_value(1).get_node().data)
        model.add_outputs(pooling.input_value(0))
        settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        self._model = core.compile_model(model, "CPU", settings)

    def maps(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the last maps, (rows, columns, dim), of an image, (size, size, 3), RGB; their mean is its feature.

        Several threads may call it at once, which is fastest.
        """
        maps = self._model.create_infer_request().infer({0: image[None].astype(np.float32)})[1]
        return np.moveaxis(maps, self._places, (1, 2))[0]
