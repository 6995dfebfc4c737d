"""What a stage or a tool costs before it begins to work: the time of a Python process that only imports it."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.processes import stage_environment
from benchmarks.timing import Row, alternate, summarize
from dermoscopy.runtime.workspace import PROJECT

ROUNDS = 3
# stages that never import TensorFlow (features: on a CPU); their start-up has a target
WITHOUT_TENSORFLOW = ("download", "manifest", "split", "finetune", "features", "train", "evaluate", "report")

# Runs a module as a command, then writes the names of all modules that it imported, in that order.
RUN = """
import json, runpy, sys
target, sys.argv = sys.argv[1], sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
with open(target, "w") as file:
    json.dump(list(sys.modules), file)
"""
# Imports the same, and does nothing else.
IMPORT = """
import importlib, json, sys
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except Exception:  # one that cannot be imported by its name is a part of another one, and raises what it likes
        pass
"""


def measure() -> dict[str, list[Row]]:
    modules = [f"{folder}.{file.stem}" for folder in ("stages", "tools") for file in sources(PROJECT / folder)]
    imports = {module: partial(start, f"import {module}") for module in ["sys", *modules]}
    alternate(imports, rounds=1)  # what is compiled only once
    seconds = alternate(imports, ROUNDS)
    return {
        "Start-up: python -c 'import MODULE'": [
            {"module": module, **summarize(values, "s")} for module, values in seconds.items()
        ]
    }


def sources(folder: Path) -> list[Path]:
    """Return the files of a package that are commands."""
    return sorted(file for file in folder.glob("*.py") if file.stem != "__init__")


def start(code: str) -> None:
    """Run a line of Python in the checkout."""
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def import_tensorflow() -> None:
    """Start Python and import TensorFlow: the yardstick of what a user waits for, as fast or slow as the machine is."""
    subprocess.run([sys.executable, "-c", "import tensorflow"], stderr=subprocess.DEVNULL, check=True)


class Imports:
    """What a command imports when it is run.

    Attributes:
        modules: the names of the modules, in the order in which they were imported.
    """

    def __init__(self, folder: Path, *command: str) -> None:
        """Run a command, module and arguments, in a folder; a CalledProcessError if it fails."""
        self._environment = stage_environment()
        with TemporaryDirectory() as temporary:
            target = Path(temporary) / "imports.json"
            subprocess.run(
                [sys.executable, "-c", RUN, str(target), *command],
                cwd=folder,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            self.modules: list[str] = json.loads(target.read_text(encoding="utf-8"))

    def load(self) -> None:
        """Start Python and import the same modules."""
        subprocess.run(
            [sys.executable, "-c", IMPORT],
            input=json.dumps(self.modules),
            cwd=PROJECT,
            env=self._environment,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
