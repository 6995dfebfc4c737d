"""Progress bars: images a second and time left."""

import sys
from typing import Any

from tqdm import tqdm


def progress(description: str, total: int) -> "tqdm[Any]":
    """Return a bar on stderr that counts images; away from a terminal, in a log, it speaks twice a minute at most."""
    return tqdm(desc=description, total=total, unit="image", mininterval=0.1 if sys.stderr.isatty() else 30)
