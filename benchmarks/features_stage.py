"""How close the features stage, which also reads and warps images, comes to the speed of its bare engine."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.backbones import TURN_SECONDS, first_features, images_for, run_images
from benchmarks.engines import load_tensorflow
from benchmarks.inputs import BackboneFolder, draw_photographs, make_backbone
from benchmarks.product import OPERATIONS, multiply, products
from benchmarks.timing import Row, alternate, summarize
from benchmarks.workers import Worker
from dermoscopy.data.images import ImageFile, configure_image_libraries
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.engines.openvino_engine import OpenVINOEngine
from dermoscopy.features.executors.local import LocalExecutor
from dermoscopy.features.extraction import compute_missing, prepare_views
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT

# Images a turn, all views of each: enough for some ten seconds, so that its beginning and its end count for little. The
# last network is the fastest, so decoding is the hardest to hide behind it.
BACKBONES = {"InceptionResNetV2": 50, "DenseNet121": 80, "MobileNetV2": 300}
ROUNDS = 3
AUGMENTATION = load_params(PROJECT / "params.yaml").augmentation
VIEWS = AUGMENTATION.views + 1


class Stage:
    """What the features stage and its bare engine need for some photographs, loaded."""

    def __init__(self, folder: Path, photographs: pd.DataFrame, work: Path) -> None:
        configure_image_libraries()
        self._info = read_backbone_info(folder)
        self._engine = OpenVINOEngine(folder)
        self._photographs = photographs
        self._runs = map(str, count())
        self._work = work
        files = [ImageFile(*row) for row in photographs.itertuples(index=False, name=None)]
        self._prepared = np.concatenate(
            [prepare_views(file, tuple(range(VIEWS)), AUGMENTATION, self._info.side) for file in files]
        )

    def bare(self) -> NDArray[np.float32]:
        """Return the features of all views, (images x views, dim), from memory."""
        return self._engine.compute(self._prepared, len(self._prepared))

    def stage(self) -> list[ViewChunks]:
        """Compute all views from the files, into chunks that are new, and return these."""
        keys = [view_key(self._info.fingerprint, "openvino", AUGMENTATION, view) for view in range(VIEWS)]
        images = image_keys(self._photographs)
        root = self._work / next(self._runs)
        chunks = [ViewChunks(root, key, images, (self._info.dim,)) for key in keys]
        compute_missing(self._photographs, chunks, AUGMENTATION, self._info.side, LocalExecutor(lambda: self._engine))
        return chunks


def run_engine(stage: Stage) -> None:
    """Run the bare engine."""
    stage.bare()


def run_whole_stage(stage: Stage) -> None:
    """Run all that the stage does."""
    stage.stage()


def measure() -> dict[str, list[Row]]:
    """Return a row for each backbone and way to run it."""
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder), max(BACKBONES.values()))
        for name, images in BACKBONES.items():
            rows += measure_features_stage(make_backbone(name), photographs[:images], Path(folder))
    return {f"The features stage, 600 x 450 JPEGs, {VIEWS} views at 224 pixels": rows}


def measure_features_stage(backbone: BackboneFolder, photographs: pd.DataFrame, work: Path) -> list[Row]:
    """Return the rows of the stage, the bare engine, TensorFlow and the matrix products, all measured in turns."""
    with ExitStack() as stack:
        ours = stack.enter_context(closing(Worker(Stage, backbone.path, photographs, work / backbone.name)))
        theirs = stack.enter_context(closing(Worker(load_tensorflow, backbone.path)))
        machine = {name: stack.enter_context(closing(Worker(load))) for name, load in products().items()}
        images = {"stage": VIEWS * len(photographs), "bare engine": VIEWS * len(photographs)}
        theirs.call(first_features)
        images["TensorFlow"] = images_for(TURN_SECONDS, theirs)
        turns: dict[str, Callable[[], None]] = {
            "stage": partial(ours.call, run_whole_stage),
            "bare engine": partial(ours.call, run_engine),
            "TensorFlow": partial(theirs.call, run_images, images["TensorFlow"]),
            **{f"limit by {name}": partial(worker.call, multiply) for name, worker in machine.items()},
        }
        alternate(turns, rounds=1)  # to warm up
        seconds = alternate(turns, ROUNDS)
    speeds = {name: [images[name] / second for second in seconds[name]] for name in images}
    speeds |= {
        limit: [OPERATIONS / second / (2 * backbone.multiply_adds) for second in seconds[limit]]
        for limit in sorted(turns.keys() - images)
    }
    return describe_speeds(backbone.name, speeds)


def describe_speeds(backbone: str, speeds: Mapping[str, list[float]]) -> list[Row]:
    """Return a row for each speed, with the stage's speed relative to it: the median of the ratios in each round."""
    return [
        {
            "backbone": backbone,
            "what": name,
            **summarize(speed, "images/s"),
            "stage's speed, times this": median(np.divide(speeds["stage"], speed).tolist()),
        }
        for name, speed in speeds.items()
    ]
