"""Things that are made once a test session, however many processes run it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from dermoscopy.runtime.files import replacing


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the session that `fill` has filled; the first process that asks for it does that.

    Tests share it, so they change copies only.
    """
    base = tmp_path_factory.getbasetemp()
    root = base.parent if base.name.startswith("popen-") else base  # pytest-xdist gives each worker a folder of its own
    folder = root / name
    with FileLock(root / f"{name}.lock"):
        if not folder.exists():
            with replacing(folder) as partial:
                partial.mkdir()
                fill(partial)
    return folder
