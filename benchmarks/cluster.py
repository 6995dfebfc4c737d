"""What a Ray cluster costs and brings: a worker against this process, two against one, and how many the driver feeds.

The nodes are on this machine, so nothing here crosses a network; the projection names what one must carry.
"""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs import draw_photographs, make_backbone
from benchmarks.timing import Row, alternate, summarize, timed
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.chunks import CHUNK, ViewChunks
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.executors import staff
from dermoscopy.features.executors.cluster import ClusterExecutor
from dermoscopy.features.executors.local import LocalExecutor
from dermoscopy.features.executors.worker import Worker
from dermoscopy.features.extraction import Executor, compute_missing, make_tasks
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.features.store import write_features
from dermoscopy.runtime.params import Features, load_params
from dermoscopy.runtime.workspace import PROJECT

BACKBONE = "MobileNetV2"  # the fastest network: what goes with a task weighs most
PHOTOGRAPHS = 1024  # four tasks
FED = 25_600  # a hundred tasks of which nothing is computed
DIM = 1536  # of InceptionResNetV2
ROUNDS = 3
AUGMENTATION = load_params(PROJECT / "params.yaml").augmentation
VIEWS = AUGMENTATION.views + 1
FEATURES = Features(engine="openvino", precision="float32")
PROJECTED = 1_000_000
WORKERS = 100
# Views a second of InceptionResNetV2 (docs/gpu.md): twice what OpenVINO reaches on two cores; of an H200; and of its 16
# cores, which decode 1,800 images of 600 x 450 a second, where bfloat16 could do 13,140 views.
SPEEDS = {"4 cores": 28.8, "H200 and 16 cores, float32": 1890.0, "the same, bfloat16, limited by decoding": 5400.0}


def measure() -> dict[str, list[Row]]:
    """Return the speeds, the driver's share of a task, and the projection."""
    configure_image_libraries()
    with TemporaryDirectory() as folder:
        photographs = draw_photographs(Path(folder), PHOTOGRAPHS)
        speeds = measure_speeds(photographs, Path(folder) / "runs")
        driver = measure_driver(Path(folder) / "driver")
    return {
        f"{BACKBONE}, {PHOTOGRAPHS} JPEGs of 600 x 450, {VIEWS} views at 224 pixels": speeds,
        f"The driver, {FED} images x {VIEWS} views x {DIM} numbers, nothing computed": driver,
        f"Projection: {PROJECTED:,} images x {VIEWS} views x {DIM} numbers, {WORKERS} workers": project(driver),
    }


@contextmanager
def nodes(*cores: int) -> Iterator[str]:
    """Give the address of a cluster on this machine whose nodes have so many cores."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args={"num_cpus": cores[0], "include_dashboard": False})
    try:
        for of_node in cores[1:]:
            started.add_node(num_cpus=of_node)
        yield started.address
    finally:
        started.shutdown()


def measure_speeds(photographs: pd.DataFrame, work: Path) -> list[Row]:
    """Return a row for each way to compute the same views; each pair is measured in turns."""
    backbone = make_backbone(BACKBONE).path
    run = Run(photographs, backbone, work)
    local = LocalExecutor(partial(load_engine, "openvino", backbone))
    all_cores, example = os.cpu_count() or 1, photographs["path"][0]
    rows = []
    with nodes(all_cores) as address, closing(ClusterExecutor(address, FEATURES, backbone, example)) as one:
        rows += run.compare({"this process": local, f"one worker of {all_cores} cores": one})
    for workers in (1, 2):
        with (
            nodes(*[1] * workers) as address,
            closing(ClusterExecutor(address, FEATURES, backbone, example)) as several,
        ):
            rows += run.compare({f"{workers} of one core": several})
    return rows


class Run:
    """The computation of all views of some photographs, by any executor."""

    def __init__(self, photographs: pd.DataFrame, backbone: Path, work: Path) -> None:
        self._photographs = photographs
        self._info = read_backbone_info(backbone)
        self._work = work
        self._runs = map(str, count())

    def compute(self, executor: Executor) -> None:
        """Compute all views into chunks that are new."""
        keys = [view_key(self._info.fingerprint, "openvino", AUGMENTATION, view) for view in range(VIEWS)]
        images, root = image_keys(self._photographs), self._work / next(self._runs)
        chunks = [ViewChunks(root, key, images, (self._info.dim,)) for key in keys]
        compute_missing(self._photographs, chunks, AUGMENTATION, self._info.side, executor)

    def compare(self, executors: dict[str, Executor]) -> list[Row]:
        """Return a row for each executor, measured in turns; the time is against that of the first in each round."""
        turns: dict[str, Callable[[], None]] = {
            name: partial(self.compute, executor) for name, executor in executors.items()
        }
        alternate(turns, rounds=1)  # loads the engines
        seconds = alternate(turns, ROUNDS)
        first = next(iter(seconds.values()))
        views = VIEWS * len(self._photographs)
        return [
            {
                "executor": name,
                **summarize([views / second for second in of_one], "views/s"),
                "time, times the first": median(np.divide(of_one, first).tolist()),
            }
            for name, of_one in seconds.items()
        ]


def measure_driver(work: Path) -> list[Row]:
    """Return what the driver does for each task, with workers that compute nothing, and what is sent."""

    class Idle(Worker):
        def compute(self, setup: list[Any], task: Any, contents: Any) -> NDArray[np.float32]:
            return np.zeros((len(task.files), len(task.views), DIM), np.float32)

    images = pd.DataFrame(
        {
            "image_id": [f"ISIC_{number:07d}" for number in range(FED)],
            "path": [f"data/raw/images/ISIC_{number:07d}.jpg" for number in range(FED)],
            "sha256": [f"{number:064d}" for number in range(FED)],
        }
    )
    backbone = make_backbone(BACKBONE).path
    keys = [view_key("none", "none", AUGMENTATION, view) for view in range(VIEWS)]
    chunks = [ViewChunks(work / "chunks", key, image_keys(images), (DIM,)) for key in keys]
    rate = len(images) / CHUNK
    with ExitStack() as stack:
        staff.Worker = Idle  # type: ignore[misc] # mypy: not to a class; workers are made of what has this name
        stack.callback(setattr, staff, "Worker", Worker)
        address = stack.enter_context(nodes(1, 1))
        executor = stack.enter_context(closing(ClusterExecutor(address, FEATURES, backbone, __file__)))
        executor.identity()
        fed = timed(lambda: compute_missing(images, chunks, AUGMENTATION, 224, executor))
    from dermoscopy.features.computation import features_info

    info = features_info(read_backbone_info(backbone), "none", AUGMENTATION, FED).model_copy(update={"dim": DIM})
    written = timed(lambda: write_features(images, chunks, info, work / "features"))
    missing = {tuple(range(VIEWS)): list(range(CHUNK))}
    task = next(iter(make_tasks(images, missing, [4 * DIM] * VIEWS)))
    return [
        {"what": "tasks a second: sent, received, checked, kept", "value": rate / fed},
        {"what": "images a second of these tasks", "value": FED / fed},
        {"what": "images a second, all written into data/features at the end", "value": FED / written},
        {"what": "bytes sent with a task", "value": len(pickle.dumps(task))},
        {"what": "bytes received of a task", "value": len(pickle.dumps(np.zeros((CHUNK, VIEWS, DIM), np.float32)))},
    ]


def project(driver: list[Row]) -> list[Row]:
    """Return how long WORKERS workers take for PROJECTED images by kind, and how many workers the driver feeds."""
    values = {row["what"]: row["value"] for row in driver}
    fed = values["images a second of these tasks"]
    written = PROJECTED / values["images a second, all written into data/features at the end"]
    bits = 8 * (values["bytes sent with a task"] + values["bytes received of a task"]) / CHUNK
    return [
        {
            "a worker": kind,
            "images/s of the workers": WORKERS * speed / VIEWS,
            "images/s": (rate := min(fed, WORKERS * speed / VIEWS)),
            "Gbit/s at the driver": 1e-9 * bits * rate,
            "minutes, with the store": (PROJECTED / rate + written) / 60,
            "workers that the driver feeds": fed / (speed / VIEWS),
        }
        for kind, speed in SPEEDS.items()
    ]
