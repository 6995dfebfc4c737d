"""A Ray cluster of several nodes on this machine, and its workers."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil  # type: ignore[import-untyped] # its stubs are a package of their own


@contextmanager
def ray_cluster(nodes: int, **head: int) -> Iterator[Any]:
    """Give a cluster of nodes with a core each, `address` is for RAY_ADDRESS; `head` are more settings of its head."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **head})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def free_port() -> int:
    """Return the number of a port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def workers() -> list[psutil.Process]:
    """Return the processes that run a worker of ours on the nodes of this process, in the order of their start."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if process.cmdline()[:1] == ["ray::Worker"] or process.name().startswith("ray::Worker"):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition, at most so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
