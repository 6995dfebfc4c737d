"""Timing in turns: on a shared machine an absolute time means little, and a ratio only within one run."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Row = dict[str, Any]


def alternate(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call of each contender: A B C A B C ..., so that a slow minute affects all of them.

    Call each contender once before, so that what happens only once, such as compilation, is not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            seconds[name].append(timed(call))
    return seconds


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def summarize(values: list[float], name: str) -> Row:
    """Return the median, least and greatest of some values, as columns that begin with `name`."""
    return {name: median(values), f"{name}, least": min(values), f"{name}, most": max(values)}
