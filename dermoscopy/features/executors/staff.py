"""The workers of a Ray cluster: started where the nodes have room, taken or left out, and waited for."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from dermoscopy.features.engines.devices import AT_ONCE
from dermoscopy.features.executors.worker import Description, Worker
from dermoscopy.runtime.errors import ClusterError, PipelineError
from dermoscopy.runtime.params import Features

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
        """Forget a worker that is lost; another one may start in its place."""
        self.hired = [hired for hired in self.hired if hired is not worker]
        self._failures = 0

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


def last_line(error: Exception) -> str:
    """Return the last line of an error's message, which has its reason: Ray's have many."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
