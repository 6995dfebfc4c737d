"""OpenVINO, the fastest engine on a CPU."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermoscopy.features.backbones import OPENVINO_FILES, require_intact


class OpenVINOEngine:
    """OpenVINO on the CPU: one image a request, so that a result never depends on its neighbours in a batch."""

    at_once = 1  # its requests fill all threads

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load the backbone of a folder; `threads` of the processor at most, None: all."""
        import openvino

        require_intact(folder, OPENVINO_FILES)
        core = openvino.Core()
        prepared = openvino.preprocess.PrePostProcessor(core.read_model(folder / "backbone.xml"))
        # bytes travel to the plugin, which makes floats of them
        prepared.input().tensor().set_element_type(openvino.Type.u8)
        # without the hint, processors that have it compute in bfloat16
        settings: dict[str, str | int | bool] = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            # pinned, the threads of all workers on a machine would share the first cores
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        model = core.compile_model(prepared.build(), "CPU", settings)
        self._shape = tuple(model.output(0).shape)[1:]
        self._queue = openvino.AsyncInferQueue(model)

    def compute(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        """Return the features, (count, dim), of `count` images, each (size, size, 3), RGB; of a trunk its maps."""
        features = np.empty((count, *self._shape), np.float32)

        def store(request: Any, row: int) -> None:
            features[row] = request.get_output_tensor().data[0]

        self._queue.set_callback(store)
        try:
            for row, image in enumerate(images):
                self._queue.start_async({0: image[None]}, row)
        finally:
            self._queue.wait_all()  # also when `images` fails: no request may outlive this call
        return features
