"""A Ray cluster as an executor: a worker for each GPU, or for a few cores, that the cluster has.

Ray is an extra (requirements-cluster.txt): this module is imported only where RAY_ADDRESS is set.
"""

import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.data.storage import is_remote, read_ahead
from dermoscopy.features.backbones import KERAS_FILES, OPENVINO_FILES
from dermoscopy.features.executors.staff import FAILURES, HERE, Hired, Staff, WorkerLostError, ask, last_line
from dermoscopy.features.executors.worker import Setup
from dermoscopy.features.extraction import Task
from dermoscopy.runtime.errors import ClusterError, first_few
from dermoscopy.runtime.files import located
from dermoscopy.runtime.keras_start import quiet_stderr
from dermoscopy.runtime.params import Augmentation, Features
from dermoscopy.runtime.workspace import PROJECT


class ClusterExecutor:
    """Runs tasks on the workers of a cluster; only this process reads and writes the project's files.

    A worker that is lost, alone or with its node, loses the tasks that it had, and others compute them.
    """

    def __init__(self, address: str, features: Features, backbone: Path, example: str) -> None:
        """Connect.

        Args:
            address: as Ray understands RAY_ADDRESS: local, auto, host:port or ray://host:10001.
            features: the params of the engine.
            backbone: its folder.
            example: the path of one of the images.

        Raises:
            ClusterError: Ray is not installed, or no cluster can be used at the address.
        """
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray would tell its makers of the cluster
        if address != "local":
            os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")  # or it tries for ten minutes where nobody answers
        try:
            import ray
        except ModuleNotFoundError:
            raise ClusterError(f"RAY_ADDRESS is set, and Ray is not installed: run make cluster, or {HERE}") from None
        try:
            with quiet_stderr():
                ray.init(
                    address,
                    runtime_env={"py_modules": [str(PROJECT / "dermoscopy")]},
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except Exception as error:  # of many kinds, by the address: ConnectionError, RuntimeError, ValueError, grpc's
            raise ClusterError(
                f"RAY_ADDRESS={address}: no Ray cluster can be used there ({last_line(error)}): start it, correct the "
                f"address, set RAY_AUTH_MODE=token if the cluster has a token, or {HERE}"
            ) from None
        self._ray = ray
        self._backbone = backbone
        self.staff = Staff(features, absolute(example))

    def close(self) -> None:
        """Disconnect, which ends the workers."""
        self._ray.shutdown()

    def identity(self) -> str:
        """Return the identity of the workers' engine; waits for the first worker, see `Staff.first`."""
        return self.staff.first().identity

    def run(
        self, tasks: Iterable[Task], augmentation: Augmentation, size: int, bar: "tqdm[Any]"
    ) -> Iterator[tuple[Task, NDArray[np.float32]]]:
        """Yield tasks and their features as `Executor.run` says; a second call must be of the same views and size."""
        names = {"backbone.json", *(OPENVINO_FILES if self.staff.first().engine == "openvino" else KERAS_FILES)}
        files = {name: (self._backbone / name).read_bytes() for name in names}
        setup = [ask(self._ray.put, Setup(files, augmentation, size))]
        source, waiting = iter(tasks), deque[Task]()
        running: dict[Any, tuple[Hired, Task]] = {}
        losses: Counter[int] = Counter()  # by the first image of a task

        def more() -> bool:
            if not waiting:
                waiting.extend(islice(source, 1))
            return bool(waiting)

        while more() or running:
            for worker in self.staff.hired:
                while worker.tasks < worker.description.at_once and more():
                    task = waiting.popleft()
                    running[submit(worker, setup, task)] = worker, task
            for done in self.staff.wait(list(running)):
                worker, task = running.pop(done)
                worker.tasks -= 1
                try:
                    features = self.staff.result(done)
                except WorkerLostError as error:
                    self.staff.dismiss(worker)
                    losses[task.numbers[0]] += 1
                    if losses[task.numbers[0]] == FAILURES:
                        images = first_few([file.image_id for file in task.files], shown=2)
                        raise ClusterError(
                            f"{FAILURES} workers of the cluster were lost while they computed {images} ({error}): give "
                            "them more memory, and look at Ray's logs"
                        ) from None
                    waiting.appendleft(task)
                else:
                    bar.update(len(task.files))
                    yield task, features


def submit(worker: Hired, setup: list[Any], task: Task) -> Any:
    """Give a worker a task, and return the reference to its features."""
    task = task._replace(files=[file._replace(path=absolute(file.path)) for file in task.files])
    contents: list[bytes] | None = None
    if not worker.description.reads:
        with read_ahead([file.path for file in task.files]) as read:
            contents = list(read)
    worker.tasks += 1
    return ask(worker.actor.compute.remote, setup, task, contents)


def absolute(path: str) -> str:
    """Return how workers name a file that the manifest names."""
    return path if is_remote(path) else str(located(path).absolute())
