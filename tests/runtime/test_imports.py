"""Imports change nothing that belongs to the whole process: that is left to commands."""

import ast
import importlib
import importlib.util
import os
import pkgutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[2]  # and not from the library, which must not be imported yet when the process starts
NEEDS_KERAS = {"keras", "tensorflow"}
EXTRAS = {"boto3", "gradio", "jax", "onnx", "ray", "s3fs", "tf2onnx", "torch"}


def imports_at_the_top(module: str) -> set[str]:
    """Return what a module imports as it is imported itself, from its source."""
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    names: set[str] = set()
    for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add(str(statement.module))
    return names


def state() -> dict[str, Any]:
    """Return what belongs to the whole process."""
    import cv2
    import PIL.Image
    import requests

    return {
        "threads of OpenCV": cv2.getNumThreads(),
        "log level of OpenCV": cv2.utils.logging.getLogLevel(),
        "filters of warnings": list(warnings.filters),
        "limit of Pillow": PIL.Image.MAX_IMAGE_PIXELS,
        "adapter of requests": requests.sessions.HTTPAdapter,
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "working folder": Path.cwd(),
    }


def print_what_imports_change() -> None:
    """Import every module of the library that does not import Keras at its top, and print what that has changed.

    Other libraries do change things, so those that ours import are imported before.
    """
    import dermoscopy

    modules = {
        name: imports_at_the_top(name) for _, name, _ in pkgutil.walk_packages(dermoscopy.__path__, "dermoscopy.")
    }
    with_keras = {name for name, imports in modules.items() if {n.partition(".")[0] for n in imports} & NEEDS_KERAS}
    ours = sorted(modules.keys() - with_keras)
    for imported in sorted(set().union(*(modules[name] for name in ours))):
        if imported.partition(".")[0] != "dermoscopy":
            importlib.import_module(imported)
    before = state()
    for name in ours:
        importlib.import_module(name)
    after = state()
    print(f"{len(ours)} modules")
    print([name for name in before if before[name] != after[name]])
    print(sorted((NEEDS_KERAS | EXTRAS) & sys.modules.keys()))


def test_importing_the_library_changes_nothing_of_the_process_and_starts_neither_keras_nor_an_extra() -> None:
    code = "from tests.runtime.test_imports import print_what_imports_change; print_what_imports_change()"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    modules, changed, heavy = result.stdout.splitlines()
    assert int(modules.split()[0]) > 40  # of six packages
    assert changed == "[]"
    assert heavy == "[]"
