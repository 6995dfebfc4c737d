"""The Python of the project's environment: that it has the packages of requirements.txt, and that they keep quiet."""

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


def forbid_telemetry() -> None:
    """Keep OpenVINO from telling Google Analytics of each import and conversion, as it does unless CI is set.

    OpenVINO works without the package that sends. With that package, it copies the whole process for each message.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: an import of it fails
