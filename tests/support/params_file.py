"""params.yaml files for tests: the repository's, with some values changed."""

from pathlib import Path
from typing import Any

import yaml

from stages.common.params import load_params
from tests.imports import ROOT

PARAMS = load_params(ROOT / "params.yaml")


def write_params(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """Write params.yaml into a folder: the repository's with the values in `changes`, by section and key."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section].update(values)
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
