"""The Python of the project's environment, which has the packages of requirements.txt."""

import sys
from importlib.util import find_spec


def require_environment() -> None:
    """End the process with one line if this Python lacks the packages: it is another one than the environment's.

    It comes before any import of them, and needs none.
    """
    if find_spec("dvclive") is None:  # one that hardly anybody has by chance
        sys.exit(
            f"error: {sys.executable} lacks the packages of this project, such as dvclive: run "
            "`source .venv/bin/activate` first, or `make repro`, which makes that environment"
        )
