"""How much of the bare engine's speed is left to the features stage, which reads and warps images meanwhile."""

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

from benchmarks.backbones import TURN_SECONDS, first_features, images_for, run
from benchmarks.engines import tensorflow
from benchmarks.inputs import BackboneFolder, draw_photographs, make_backbone
from benchmarks.product import OPERATIONS, multiply, products
from benchmarks.timing import Row, alternate, summarize
from benchmarks.workers import Worker
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.chunks import ViewStore, image_keys, view_key
from dermoscopy.features.engines.choice import OpenVINOEngine
from dermoscopy.features.extraction import compute_missing, prepare_views
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT

# Images a turn, all views of each, for some ten seconds: beginning and end should not count. Behind the last network
# decoding is the hardest to hide.
BACKBONES = {"InceptionResNetV2": 50, "DenseNet121": 80, "MobileNetV2": 300}
ROUNDS = 3
AUGMENTATION = load_params(PROJECT / "params.yaml").augmentation
VIEWS = AUGMENTATION.views + 1


class Stage:
    """What the features stage holds, and what the bare engine needs, for some photographs."""

    def __init__(self, folder: Path, photographs: pd.DataFrame, work: Path) -> None:
        self._info = read_backbone_info(folder)
        self._engine = OpenVINOEngine(folder)
        self._photographs = photographs
        self._stores = map(str, count())
        self._work = work
        rows = photographs.itertuples(index=False, name=None)
        self._prepared = np.concatenate([self._views(row) for row in rows])

    def _views(self, row: tuple[str, str, str]) -> NDArray[np.uint8]:
        return prepare_views(row, tuple(range(VIEWS)), AUGMENTATION, self._info.image_size)

    def bare(self) -> NDArray[np.float32]:
        """Return the features of all views, (images x views, dim), from memory."""
        return self._engine.run(self._prepared, len(self._prepared))

    def stage(self) -> list[ViewStore]:
        """Compute all views from the files, into stores that are new."""
        keys = [view_key(self._info.fingerprint, "openvino", AUGMENTATION, view) for view in range(VIEWS)]
        images = image_keys(self._photographs)
        root = self._work / next(self._stores)
        stores = [ViewStore(root, key, images, self._info.dim) for key in keys]
        compute_missing(self._photographs, stores, AUGMENTATION, self._info.image_size, lambda: self._engine)
        return stores


def bare(stage: Stage) -> None:
    """Run the engine alone."""
    stage.bare()


def whole(stage: Stage) -> None:
    """Run all that the stage does."""
    stage.stage()


def measure() -> dict[str, list[Row]]:
    """Return a row for each backbone and way to run it."""
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder), max(BACKBONES.values()))
        for name, images in BACKBONES.items():
            rows += measure_backbone(make_backbone(name), photographs[:images], Path(folder))
    return {f"The features stage, 600 x 450 JPEGs, {VIEWS} views at 224 pixels": rows}


def measure_backbone(backbone: BackboneFolder, photographs: pd.DataFrame, work: Path) -> list[Row]:
    """Return the rows of the stage, the bare engine, TensorFlow and the matrix products, which took turns."""
    with ExitStack() as stack:
        ours = stack.enter_context(closing(Worker(Stage, backbone.path, photographs, work / backbone.name)))
        theirs = stack.enter_context(closing(Worker(tensorflow, backbone.path)))
        machine = {name: stack.enter_context(closing(Worker(load))) for name, load in products().items()}
        images = {"stage": VIEWS * len(photographs), "bare engine": VIEWS * len(photographs)}
        theirs.call(first_features)
        images["TensorFlow"] = images_for(TURN_SECONDS, theirs)
        turns: dict[str, Callable[[], None]] = {
            "stage": partial(ours.call, whole),
            "bare engine": partial(ours.call, bare),
            "TensorFlow": partial(theirs.call, run, images["TensorFlow"]),
            **{f"limit by {name}": partial(worker.call, multiply) for name, worker in machine.items()},
        }
        alternate(turns, rounds=1)  # to warm up
        seconds = alternate(turns, ROUNDS)
    speeds = {name: [images[name] / second for second in seconds[name]] for name in images}
    speeds |= {
        limit: [OPERATIONS / second / (2 * backbone.multiply_adds) for second in seconds[limit]]
        for limit in sorted(turns.keys() - images)
    }
    return tabulate(backbone.name, speeds)


def tabulate(backbone: str, speeds: Mapping[str, list[float]]) -> list[Row]:
    """Return a row for each way; the stage's ratio to it is the median over the rounds, of turns side by side."""
    return [
        {
            "backbone": backbone,
            "what": name,
            **summarize(speed, "images/s"),
            "stage's speed, times this": median(np.divide(speeds["stage"], speed).tolist()),
        }
        for name, speed in speeds.items()
    ]
