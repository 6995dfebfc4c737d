"""The whole pipeline on real dermoscopic images, with MobileNetV2's real ImageNet weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workspace:
    """A finished run."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "shared").symlink_to(shared)
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": "directory", "directory": "../shared/data/isic2018-test"},
        "backbone": {
            "name": "MobileNetV2",
            "weights": "../shared/weights/mobilenet_v2_imagenet_notop.weights.h5",
        },
        "augmentation": {"views": 1},
    }
    workspace = Workspace(folder / "project", cache, changes)
    workspace.dvc("repro")
    return workspace


def test_a_real_backbone_learns_what_guessing_cannot(real: Workspace) -> None:
    test = real.metrics()["test"]
    assert test["support"] == 113
    # always answering nv gets 1/7
    assert test["balanced_accuracy"] > 0.3
    assert test["balanced_accuracy_ci"][0] < test["balanced_accuracy"] < test["balanced_accuracy_ci"][1]
    assert test["macro_auc"] > 0.7


def test_predict_gives_photographs_what_the_pipeline_gave_them(real: Workspace) -> None:
    expected = pd.read_csv(real.folder / "data/predictions.csv").head(70)
    paths = pd.read_csv(real.folder / "data/manifest.csv", index_col="image_id")["path"][expected["image_id"]]
    real.python("-m", "tools.predict", *paths, "--no-tta", "--csv", "new.csv")
    found = pd.read_csv(real.folder / "new.csv")
    assert list(found["image"]) == list(paths)
    assert list(found["predicted"]) == list(expected["predicted"])
    np.testing.assert_allclose(found[expected.filter(regex="^p_").columns], expected.filter(regex="^p_"), atol=1e-5)
