"""A Ray cluster as an executor: a worker for each GPU, or for a few cores, that the cluster has.

Ray is an extra (requirements-cluster.txt): this module is imported only where RAY_ADDRESS is set.
"""

import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.data.storage import is_remote, read_bytes
from dermoscopy.features.backbones import KERAS_FILES, OPENVINO_FILES
from dermoscopy.features.executors.worker import AT_ONCE, Description, Setup, Worker
from dermoscopy.features.extraction import Task
from dermoscopy.runtime.errors import ClusterError, PipelineError, first_few
from dermoscopy.runtime.files import located
from dermoscopy.runtime.keras_start import quiet_stderr
from dermoscopy.runtime.params import Augmentation, Features
from dermoscopy.runtime.workspace import PROJECT

CORES = 4  # of a worker without a GPU, where every node has as many
LOOK = 2.0  # seconds between looks at which nodes there are
SILENCE = 20.0  # seconds without a worker before that is said
FAILURES = 3  # losses of one task, or of workers that were starting: after so many it is not the node's fault
HERE = "unset RAY_ADDRESS to run here"


class WorkerLostError(Exception):
    """A worker has died, with its node or alone, or what it had computed was lost."""


@dataclass
class Hired:
    """A worker as the driver knows it, and how many tasks it has."""

    actor: Any
    description: Description
    tasks: int = 0


class Places(NamedTuple):
    """How many workers the nodes have room for, and what each takes of its node."""

    workers: int
    cores: int
    gpu: bool


def find_places(nodes: list[dict[str, float]], gpu: bool) -> Places:
    """Return the places on nodes with these resources: one for each GPU, or for a few cores each."""
    if gpu:
        having = [node for node in nodes if node.get("GPU")]
        cores = min((int(node.get("CPU", 0) // node["GPU"]) for node in having), default=0)
        return Places(sum(int(node["GPU"]) for node in having), cores, gpu)
    of_nodes = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    cores = min([CORES, *of_nodes])
    return Places(sum(node // cores for node in of_nodes), cores, gpu)


class Staff:
    """The workers of a cluster, as they and their nodes come and go.

    A worker whose engine is another than the first one's is left out, for its features would be others.

    Attributes:
        hired: those that take tasks.
        left_out: those that do not; they keep their places, or others like them would be started there.
    """

    def __init__(self, features: Features, example: str) -> None:
        """Take the params of the engine, and the path of an image that workers may be able to read."""
        import ray

        self._ray = ray
        self._features = features
        self._example = example
        self._worker: Any = ray.remote(Worker)
        self._starting: dict[Any, Any] = {}
        self.hired: list[Hired] = []
        self.left_out: list[Hired] = []
        self._gpu: bool | None = None  # what the first look finds; a run does not change between the two
        self._first: Description | None = None
        self._nodes: set[str] = set()
        self._failures = 0  # to start, one after another, on these nodes
        self._next_look = 0.0
        self._alone_since = time.monotonic()

    def first(self) -> Description:
        """Return what the first worker said, for which this waits.

        Raises:
            ClusterError: the workers cannot start, or the cluster is gone.
        """
        while self._first is None:
            self.wait([])
        return self._first

    def wait(self, running: list[Any]) -> list[Any]:
        """Return which of the running tasks are done, after a while none; see to it that there are workers.

        Raises:
            ClusterError: no worker can start, or the cluster is gone.
        """
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK
            self._hire()
        if self.hired:
            self._alone_since = now
        elif now > self._alone_since + SILENCE:
            problem = "they take long to start" if self._starting else "no node has room for one"
            print(f"waiting for workers of the Ray cluster: {problem}; to stop waiting, {HERE}", file=sys.stderr)
            self._alone_since = float("inf")
        if not (refs := [*running, *self._starting]):
            time.sleep(LOOK)
            return []
        done, _ = ask(self._ray.wait, refs, timeout=LOOK)
        for ref in done:
            if ref in self._starting:
                self._welcome(ref)
        return [ref for ref in done if ref in running]

    def dismiss(self, worker: Hired) -> None:
        """Forget a worker that is lost."""
        self.hired = [hired for hired in self.hired if hired is not worker]

    def result(self, ref: Any) -> Any:
        """Return what a worker has computed.

        Raises:
            WorkerLostError: it was lost.
            PipelineError: what the worker raised, or that the cluster is gone.
        """
        try:
            return ask(self._ray.get, ref)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, PipelineError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            raise WorkerLostError(last_line(error)) from None

    def _hire(self) -> None:
        """Start workers in all places that have none."""
        nodes = {node["NodeID"]: node["Resources"] for node in ask(self._ray.nodes) if node["Alive"]}
        if nodes.keys() != self._nodes:
            self._nodes, self._failures = set(nodes), 0
        if self._failures >= FAILURES:  # until there are other nodes
            return
        if self._gpu is None and nodes:
            self._gpu = self._features.engine != "openvino" and any(node.get("GPU") for node in nodes.values())
        self.left_out = [worker for worker in self.left_out if worker.description.node in nodes]
        places = find_places(list(nodes.values()), bool(self._gpu))
        for _ in range(places.workers - len(self._starting) - len(self.hired) - len(self.left_out)):
            actor = self._worker.options(
                num_cpus=places.cores, num_gpus=int(places.gpu), max_concurrency=AT_ONCE
            ).remote(self._features, places.cores)
            self._starting[ask(actor.describe.remote, self._example)] = actor

    def _welcome(self, ref: Any) -> None:
        """Take a worker that has started, or count one that could not."""
        actor = self._starting.pop(ref)
        try:
            description = self.result(ref)
        except ClusterError:
            raise
        except (WorkerLostError, PipelineError) as error:
            self._failures += 1
            problem = (
                f"workers of the Ray cluster cannot start ({error}): install requirements.txt of this project on its "
                "nodes, and what features.engine needs"
            )
            if self._failures == FAILURES and not self.hired:
                raise ClusterError(problem) from None
            if self._failures == FAILURES:
                print(f"warning: features: {problem}; the others go on", file=sys.stderr)
            return
        self._failures = 0
        self._first = self._first or description
        if description.identity == self._first.identity:
            self.hired.append(Hired(actor, description))
        else:
            self.left_out.append(Hired(actor, description))
            print(
                f"warning: features: {description.machine} is left out: it computes with {description.identity}, the "
                f"others with {self._first.identity}",
                file=sys.stderr,
            )


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
    contents = None if worker.description.reads else [read_bytes(file.path) for file in task.files]
    worker.tasks += 1
    return ask(worker.actor.compute.remote, setup, task, contents)


def ask(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a call of Ray's returns; a ClusterError if the cluster cannot be reached any more."""
    from ray.exceptions import RayError

    try:
        return call(*arguments, **named)
    except RayError:  # of what is asked for
        raise
    except Exception as error:  # of the connection: ConnectionError, RuntimeError and grpc's, by the kind of address
        raise ClusterError(
            f"the Ray cluster is gone ({last_line(error)}): start it and run again, or {HERE}; what is computed is kept"
        ) from None


def absolute(path: str) -> str:
    """Return how workers name a file that the manifest names."""
    return path if is_remote(path) else str(located(path).absolute())


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, which has its reason: Ray's have many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
