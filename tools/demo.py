"""`make demo`: the unchanged pipeline on drawn images, in a scratch workspace, in less than a minute.

InceptionResNetV2 with random weights at a small image size: it shows that everything works, and nothing else.
"""

import shutil
import subprocess
import sys
from typing import Any

from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.paths import METRICS, PAGE
from dermoscopy.runtime.workspace import PROJECT, environment, make_workspace
from dermoscopy.scoring.metrics import Metrics, read_metrics

DEMO = PROJECT / ".demo"
DEMO_PARAMS: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": 200},
    "backbone": {"weights": "random", "image_size": 139},
    "augmentation": {"views": 1},
}


def main() -> None:
    shutil.rmtree(DEMO, ignore_errors=True)
    make_workspace(DEMO, DEMO_PARAMS)
    (DEMO / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")  # Git is not needed
    print(f"Running dvc repro in {DEMO}: drawn images, InceptionResNetV2 with random weights ...", flush=True)
    result = subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=DEMO, env=environment(), check=False)
    if result.returncode:
        raise PipelineError("the demo did not finish: see the message of the stage above")
    print_metrics(read_metrics(DEMO / METRICS))
    print(f"\nReport: {DEMO / PAGE}")
    print("A page to try the model on: make app")
    print(
        "These numbers only show that the pipeline works: the images are drawn and the network's weights are random.\n"
        "For real results: make repro (see README.md)."
    )


def print_metrics(metrics: dict[str, Metrics]) -> None:
    """Print the headline metrics, one row a part."""
    names = ["accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "macro_auc", "log_loss", "support"]
    print("\n" + "".join(f"{name:>19}" for name in ["", *names]))
    for part, values in metrics.items():
        numbers = "".join(f"{getattr(values, name):>19.3f}" for name in names[:-1])
        print(f"{part:>19}{numbers}{values.support:>19}")


if __name__ == "__main__":
    run_command(main)
