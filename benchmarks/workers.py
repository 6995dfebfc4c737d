"""Contenders in processes of their own, because the thread pools of several libraries in one process interfere."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

Loaded = TypeVar("Loaded")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

# They choose the kernels of OpenBLAS; a machine may set them for an old OpenBLAS, and NumPy's is then slow.
OPENBLAS_SETTINGS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

_loaded: Any = None


class Worker(Generic[Loaded]):
    """A process that loads something once and then calls functions with it; these and their arguments must pickle."""

    def __init__(self, load: Callable[Parameters, Loaded], *args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        """Start the process, which calls `load`; do not wait for it."""
        self._pool = ProcessPoolExecutor(1, get_context("spawn"))
        with _without(OPENBLAS_SETTINGS):
            self._ready: Future[None] = self._pool.submit(_keep, load, *args, **kwargs)

    def call(
        self,
        function: Callable[Concatenate[Loaded, Parameters], Result],
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Return function(loaded, ...), called in that process."""
        self._ready.result()
        return self._pool.submit(_apply, function, *args, **kwargs).result()

    def loaded(self) -> Loaded:
        """Return what that process has loaded; it must pickle."""
        return self.call(_itself)

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _keep(load: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    global _loaded
    _loaded = load(*args, **kwargs)


def _itself(loaded: Loaded) -> Loaded:
    return loaded


def _apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(_loaded, *args, **kwargs)
