"""What runs on the nodes of a Ray cluster: an engine that computes tasks."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.storage import is_remote
from dermoscopy.features.engines.choice import choose_engine, engine_identity, load_engine
from dermoscopy.features.engines.devices import tasks_at_once
from dermoscopy.features.extraction import Extractor, Task
from dermoscopy.runtime.environment import forbid_telemetry
from dermoscopy.runtime.params import Augmentation, EngineName, Features


class Description(NamedTuple):
    """What a worker says of itself.

    Attributes:
        node: Ray's number of its node.
        machine: the name of it.
        engine: that runs the backbone there.
        identity: of that engine.
        at_once: how many tasks keep it busy.
        reads: whether it can read the images itself.
    """

    node: str
    machine: str
    engine: EngineName
    identity: str
    at_once: int
    reads: bool


class Setup(NamedTuple):
    """What all tasks have in common: the files of the backbone, by name, and what the views are, and their size."""

    backbone: dict[str, bytes]
    augmentation: Augmentation
    size: int


class Worker:
    """What runs on the cluster: an engine, loaded with the first task."""

    def __init__(self, features: Features, cores: int) -> None:
        """Take the params of the engine, and how many cores of its node are this worker's."""
        import ray

        forbid_telemetry()
        if not ray.get_gpu_ids():
            os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # Ray hides no GPU of the node that others may have
        configure_image_libraries()
        self._features = features
        self._cores = cores
        self._extractor: Extractor | None = None
        self._loading = Lock()

    def describe(self, path: str) -> Description:
        """Return what this worker is; `path` is of one of the images.

        Raises:
            PipelineError: the engine is not installed, or cannot compute as the params say.
        """
        import ray

        engine = choose_engine(self._features.engine)
        return Description(
            node=ray.get_runtime_context().get_node_id(),
            machine=os.uname().nodename,
            engine=engine,
            identity=engine_identity(engine, self._features.precision),
            at_once=tasks_at_once(engine),
            reads=is_remote(path) or Path(path).is_file(),
        )

    def compute(self, setup: list[Any], task: Task, contents: list[bytes] | None) -> NDArray[np.float32]:
        """Return the features of a task, (images, views, dim).

        Args:
            setup: a reference to a Setup, in a list, so that Ray does not fetch it for every task.
            task: what to compute.
            contents: of the image files, for a worker that cannot read them.

        Raises:
            PipelineError: an image cannot be read or has changed, or the engine cannot be loaded.
        """
        with self._loading:
            if self._extractor is None:
                import ray

                self._extractor = self._load(ray.get(setup[0]))
        return self._extractor.compute(task, contents=contents)

    def _load(self, setup: Setup) -> Extractor:
        engine = choose_engine(self._features.engine)
        with TemporaryDirectory() as folder:
            for name, content in setup.backbone.items():
                (Path(folder) / name).write_bytes(content)
            loaded = load_engine(engine, Path(folder), self._features.precision, self._cores)
        return Extractor(loaded, setup.augmentation, setup.size, self._cores)
