"""`make demo`: the unchanged pipeline on drawn images, in a scratch workspace, in two minutes.

InceptionResNetV2 with random weights at a small image size: it shows that everything works, and nothing else.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from stages.common.errors import PipelineError, run

PROJECT = Path(__file__).resolve().parents[1]
WORKSPACE = PROJECT / ".demo"
PARAMS = {
    "data": {"source": "sample", "sample_images": 200},
    "backbone": {"weights": "random", "image_size": 96},
    "augmentation": {"views": 2},
}


def main() -> None:
    make_workspace()
    print(f"Running dvc repro in {WORKSPACE}: drawn images, InceptionResNetV2 with random weights ...", flush=True)
    result = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=WORKSPACE, env=environment(), check=False)
    if result.returncode:
        raise PipelineError("the demo did not finish: see the message of the stage above")
    print_metrics(json.loads((WORKSPACE / "metrics/metrics.json").read_text(encoding="utf-8")))
    print(f"\nPlots: {WORKSPACE / 'plots'} (confusion_matrix.png); `dvc plots show` there draws all of them.")
    print(
        "These numbers only show that the pipeline works: the images are drawn and the network's weights are random.\n"
        "For real results: make repro (see README.md)."
    )


def make_workspace() -> None:
    """Make a scratch copy of the pipeline with the demo's params, no Git needed."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    (WORKSPACE / ".dvc").mkdir(parents=True)
    shutil.copytree(PROJECT / "stages", WORKSPACE / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "dvc.yaml", WORKSPACE)
    shutil.copy(PROJECT / ".dvc/config", WORKSPACE / ".dvc")
    shutil.copytree(PROJECT / ".dvc/plots", WORKSPACE / ".dvc/plots")
    (WORKSPACE / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for section, values in PARAMS.items():
        params[section].update(values)
    (WORKSPACE / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


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
