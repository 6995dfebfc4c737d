"""Processes of their own for the contenders of a benchmark."""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from benchmarks.workers import OPENBLAS_SETTINGS, Worker


@pytest.fixture
def worker() -> Iterator[Worker[int]]:
    with closing(Worker(os.getpid)) as worker:
        yield worker


def add(loaded: int, more: int) -> int:
    return loaded + more


def setting(loaded: int, name: str) -> str | None:
    return os.environ.get(name)


def test_a_worker_is_a_process_of_its_own(worker: Worker[int]) -> None:
    pid = worker.call(add, 0)
    assert pid != os.getpid()
    assert worker.call(add, 1) == pid + 1
    assert worker.loaded() == pid


def test_a_worker_has_no_settings_that_slow_numpy_down(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPENBLAS_SETTINGS:
        monkeypatch.setenv(name, "Haswell")
    with closing(Worker(os.getpid)) as worker:
        assert [worker.call(setting, name) for name in OPENBLAS_SETTINGS] == [None, None]
    assert os.environ["OPENBLAS_CORETYPE"] == "Haswell"
