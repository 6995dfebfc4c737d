"""Copies of the pipeline, without data and results, in other folders."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from dermoscopy.runtime.paths import FOUND_LESIONS

PROJECT = Path(__file__).resolve().parents[2]
PIPELINE = [
    "dermoscopy",
    "stages",
    "tools",
    "dvc.yaml",
    ".dvc/config",
    ".dvc/.gitignore",
    ".dvc/plots",
    ".dvcignore",
    ".gitignore",
]


def make_workspace(folder: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Copy the pipeline into a folder, and change some of its params, by section and key.

    Found lesions are data, and of other images: the copy names none, and takes lesions from its label table.
    """
    for name in PIPELINE:
        source, target = PROJECT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (folder / FOUND_LESIONS).parent.mkdir(exist_ok=True)
    (folder / FOUND_LESIONS).write_text("image_id,lesion_id\n", encoding="utf-8")
    write_params(folder, changes | {"data": {"lesions": "table"} | changes.get("data", {})})


def write_params(folder: Path, changes: dict[str, dict[str, Any]]) -> Path:
    """Write params.yaml into a folder: the project's with the values in `changes`, by section and key."""
    yaml = YAML()
    params = yaml.load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        params[section].update(values)
    path = folder / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)
    return path


def environment() -> dict[str, str]:
    """Return the environment for dvc, with the commands of this Python first on the path."""
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
