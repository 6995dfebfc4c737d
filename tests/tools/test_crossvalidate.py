"""The command that cross-validates: its summary, its files, and its refusals."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.scoring.metrics import Metrics, point_metrics
from tests.support.labelled_features import DIM, IMAGES, make_manifest, write_project
from tests.support.prediction_tables import eight_images
from tests.support.tool import run_tool
from tools import crossvalidate
from tools.crossvalidate import fold_table


def test_the_summary_has_mean_and_standard_deviation_over_folds_and_the_pooled_value_with_its_interval() -> None:
    pooled = point_metrics(eight_images()).model_copy(update={"accuracy": 0.61, "accuracy_ci": (0.4, 0.8), "ece": 0.09})
    table = fold_table(pd.DataFrame({"accuracy": [0.5, 0.7], "ece": [0.1, 0.1]}), pooled)
    assert list(table.columns) == ["mean", "standard deviation", "pooled", "low", "high"]
    assert list(table.loc["accuracy"]) == pytest.approx([0.6, 0.02**0.5, 0.61, 0.4, 0.8])
    assert list(table.loc["ece"]) == pytest.approx([0.1, 0, 0.09, np.nan, np.nan], nan_ok=True)


@pytest.mark.parametrize("folds", ["1", "21", "many"])
def test_a_wrong_number_of_folds_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folds: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["crossvalidate", "--folds", folds])
    with pytest.raises(SystemExit) as end:
        crossvalidate.main()
    assert end.value.code == 2
    assert "--folds" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_every_image_is_predicted_once_and_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    manifest = make_manifest()
    features = np.random.default_rng(0).normal(size=(IMAGES, 2, DIM))
    features[..., 0] += 8 * pd.Categorical(manifest["label"]).codes[:, None]
    write_project(tmp_path, manifest, features)
    output = run_tool("crossvalidate", tmp_path, "--folds", "2").out
    assert "crossvalidate: 2 folds, 180 images predicted" in output
    text = (tmp_path / "metrics/crossvalidation.json").read_text()
    result = json.loads(text)
    pooled = Metrics.model_validate(result["pooled"])
    assert pooled.support == sum(values.support for values in pooled.per_class.values()) == IMAGES
    assert result["mean"]["accuracy"] == pytest.approx(pooled.accuracy)  # folds of 90 images each
    assert pooled.accuracy > 0.8  # chance is a third
    assert pooled.accuracy_ci is not None
    assert pooled.accuracy_ci[0] <= pooled.accuracy <= pooled.accuracy_ci[1]
    assert 0 <= result["standard_deviation"]["accuracy"] < 0.1
    run_tool("crossvalidate", tmp_path, "--folds", "2")
    assert (tmp_path / "metrics/crossvalidation.json").read_text() == text


@pytest.mark.slow
def test_features_of_other_views_end_in_one_line(tmp_path: Path) -> None:
    write_project(tmp_path, make_manifest(), np.zeros((IMAGES, 1, DIM)), {"augmentation": {"views": 7}})
    output = run_tool("crossvalidate", tmp_path, status=1).err
    assert output.startswith("error: data/features is of other images, another backbone or other views: ")
    assert output.count("\n") == 1
    assert not (tmp_path / "metrics").exists()


@pytest.mark.slow
def test_a_fault_in_a_fold_ends_in_one_line(tmp_path: Path) -> None:
    manifest = make_manifest()
    rare = manifest["lesion_id"].isin(["lesion_0", "lesion_1"])  # one in each fold, too few for its validation part
    manifest = manifest.assign(label=manifest["label"].mask(rare, "df"))
    write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)))
    output = run_tool("crossvalidate", tmp_path, "--folds", "2", status=1).err
    assert output.startswith("error: class df has 1 of ")
    assert output.count("\n") == 1
    assert not (tmp_path / "metrics").exists()
