"""`make demo`: the unchanged pipeline on drawn images, in a scratch workspace, in two minutes.

InceptionResNetV2 with random weights at a small image size: it shows that everything works, and nothing else.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from stages.common.errors import PipelineError, run

PROJECT = Path(__file__).resolve().parents[1]
WORKSPACE = PROJECT / ".demo"
PIPELINE = ["stages", "tools", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvc/plots", ".dvcignore", ".gitignore"]
PARAMS: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 200},
    "backbone": {"weights": "random", "image_size": 96},
    "augmentation": {"views": 2},
}


def main() -> None:
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    make_workspace(WORKSPACE, PARAMS)
    (WORKSPACE / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")  # Git is not needed
    print(f"Running dvc repro in {WORKSPACE}: drawn images, InceptionResNetV2 with random weights ...", flush=True)
    result = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=WORKSPACE, env=environment(), check=False)
    if result.returncode:
        raise PipelineError("the demo did not finish: see the message of the stage above")
    print_metrics(json.loads((WORKSPACE / "metrics/metrics.json").read_text(encoding="utf-8")))
    print(f"\nReport: {WORKSPACE / 'report/index.html'}")
    print(
        "These numbers only show that the pipeline works: the images are drawn and the network's weights are random.\n"
        "For real results: make repro (see README.md)."
    )


def make_workspace(folder: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Copy the pipeline, without data and results, into a new folder, and change some of its params."""
    for name in PIPELINE:
        source, target = PROJECT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        params[section].update(values)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def environment() -> dict[str, str]:
    """Return the environment for dvc, with the commands of this Python first on the path."""
    return os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}


def print_metrics(metrics: dict[str, dict[str, float]]) -> None:
    """Print the headline metrics, one row a part."""
    names = ["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "macro_auc", "log_loss", "support"]
    print("\n" + "".join(f"{name:>19}" for name in ["", *names]))
    for part, values in metrics.items():
        print(f"{part:>19}" + "".join(f"{values[name]:>19.3f}" for name in names[:-1]) + f"{values['support']:>19}")


if __name__ == "__main__":
    run(main)
