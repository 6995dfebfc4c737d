"""Progress bars: how much is done, how fast, and the time left."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def progress(description: str, total: int, unit: str = "image", in_logs: bool = True) -> "tqdm[Any]":
    """Return a bar on stderr.

    Args:
        description: what is done.
        total: how many units there are.
        unit: what is counted.
        in_logs: whether it speaks away from a terminal too, twice a minute at most.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        desc=description,
        total=total,
        unit=unit,
        mininterval=0.1 if terminal else 30,
        disable=not (terminal or in_logs),
    )


def tick(items: Iterable[Item], bar: "tqdm[Any]") -> Iterator[Item]:
    """Yield the items and move the bar on for each."""
    for item in items:
        yield item
        bar.update()
