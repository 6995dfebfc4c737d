"""What tools.external submits to the ISIC 2018 challenge, scored by the challenge's own program."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

# In an environment of its own, because it needs pandas below 3.
SCORER = [
    "isic-challenge-scoring==5.6.0",
    "click==8.5.1",
    "click-pathlib==2020.3.13.0",
    "cloudpickle==3.1.3",
    "joblib==1.6.0",
    "narwhals==2.29.0",
    "numpy==2.4.6",
    "pandas==2.3.3",
    "pillow==13.0.0",
    "python-dateutil==2.9.0.post0",
    "pytz==2026.1",
    "rdp==0.8",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "six==1.17.0",
    "threadpoolctl==3.6.0",
    "tzdata==2026.1",
]
TRUTH = "ISIC2018_Task3_Test_GroundTruth.csv"
OF_A_CLASS = 60  # images of each class that the model is trained on
CLASSES = 7


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The challenge's command."""
    folder = tmp_path_factory.mktemp("scorer") / "env"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", folder], check=True)
    subprocess.run([*uv, "pip", "install", "--quiet", "--no-deps", "--python", folder, *SCORER], check=True)
    # The scorer reads zipped segmentations with this library, which has no wheel for Python 3.12 and later.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "zipfile_deflate64.py").write_text("from zipfile import *\n")
    return folder / "bin/isic-challenge-scoring"


@pytest.fixture(scope="module")
def project(
    shared: Path, ham10000_metadata: Path, mobilenet_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> Workspace:
    """A finished run on a few hundred real images of all classes."""
    folder = tmp_path_factory.mktemp("submission")
    table = pd.read_csv(ham10000_metadata).groupby("dx").head(OF_A_CLASS)
    table.to_csv(folder / "all.csv", index=False)
    table[table["dx"] != "df"].to_csv(folder / "six.csv", index=False)
    changes: dict[str, dict[str, Any]] = {
        "data": {
            "source": "directory",
            "directory": str(shared / "data/ham10000"),
            "labels": str(folder / "all.csv"),
        },
        "backbone": {"name": "MobileNetV2", "weights": str(mobilenet_weights)},
        "augmentation": {"views": 1},
    }
    workspace = Workspace(folder / "project", folder / "cache", changes)
    workspace.dvc("repro")
    return workspace


def score_both(project: Workspace, scorer: Path, isic: Path) -> tuple[float, float]:
    """Test the model of a project on the challenge's images; return its balanced accuracy by the scorer and by us."""
    project.python("-m", "tools.external", str(isic))
    result = subprocess.run(
        [scorer, "--output", "json", "classification", isic / TRUTH, project.folder / "external/submission.csv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    theirs = json.loads(result.stdout)["aggregate"]["balanced_accuracy"]
    ours = json.loads((project.folder / "external/metrics.json").read_text())["external"]["balanced_accuracy"]
    return theirs, ours


def test_the_challenges_scorer_finds_our_balanced_accuracy(project: Workspace, scorer: Path, isic: Path) -> None:
    theirs, ours = score_both(project, scorer, isic)
    assert 1.5 / CLASSES < ours < 1
    assert theirs == pytest.approx(ours, abs=1e-6)


def test_the_submission_of_a_model_that_lacks_a_class_is_accepted(project: Workspace, scorer: Path, isic: Path) -> None:
    labels = Path(project.folder.parent / "six.csv")
    project.experiment(f"data.labels={labels}")
    assert "df" not in pd.read_csv(project.folder / "data/manifest.csv")["label"].unique()
    theirs, ours = score_both(project, scorer, isic)
    assert (pd.read_csv(project.folder / "external/submission.csv")["DF"] == 0).all()
    # ours is of the six classes that the model knows; the scorer has a seventh, of which none is found
    assert theirs == pytest.approx(ours * (CLASSES - 1) / CLASSES, abs=1e-6)
