"""Cross-validation: what shares a fold, what the numbers are of, and that nothing leaks between folds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.label_tables import read_labels
from dermoscopy.data.tables import write_table
from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.workspace import PROJECT
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS, write_params
from tools.crossvalidate import assign_folds, summarize

IMAGES, LESIONS, CLASSES, DIM = 180, 90, 3, 32


def make_manifest(seed: int = 0) -> pd.DataFrame:
    """Return images of 90 lesions, two of each, in three classes."""
    target = np.random.default_rng(seed).permutation(np.arange(LESIONS) % CLASSES)[np.arange(IMAGES) % LESIONS]
    return pd.DataFrame(
        {
            "image_id": [f"image_{number}" for number in range(IMAGES)],
            "label": np.array(["bkl", "mel", "nv"])[target],
            "lesion_id": [f"lesion_{number % LESIONS}" for number in range(IMAGES)],
            "sha256": [f"{number:064d}" for number in range(IMAGES)],
        }
    )


def crossvalidate(
    folder: Path,
    manifest: pd.DataFrame,
    features: Any,
    *options: str,
    status: int = 0,
    changes: dict[str, dict[str, Any]] | None = None,
) -> str:
    """Run the command in a folder with this manifest and these features, and return its output."""
    write_params(folder, {"train": {"epochs": 30, "learning_rate": 0.03}} | (changes or {}))
    write_table(manifest, folder / "data/manifest.csv")
    if not (folder / "data/features").exists():
        write_feature_folder(folder / "data/features", np.asarray(features, np.float32))
    backbone = PARAMS.backbone
    info = BackboneInfo(name=backbone.name, image_size=backbone.image_size, dim=DIM, fingerprint="0" * 64, files={})
    (folder / "models/backbone").mkdir(parents=True, exist_ok=True)
    (folder / "models/backbone/backbone.json").write_text(info.model_dump_json())
    result = subprocess.run(
        [sys.executable, "-m", "tools.crossvalidate", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return result.stdout + result.stderr


def test_no_lesion_of_ham10000_is_in_two_folds_and_all_classes_are_in_each(ham10000_metadata: Path) -> None:
    labels = read_labels(ham10000_metadata)
    manifest = labels.assign(sha256=labels["image_id"])
    fold = pd.Series(assign_folds(manifest, 5, PARAMS))
    assert len(pd.DataFrame({"lesion": manifest["lesion_id"], "fold": fold}).drop_duplicates()) == 7470
    counts = pd.crosstab(manifest["label"], fold.to_numpy())
    assert counts.shape == (7, 5)
    expected = counts.sum(axis="columns") / 5
    assert (counts.sub(expected, axis="index").abs().max(axis="columns") <= 0.1 * expected + 2).all()


def test_images_of_equal_content_share_a_fold() -> None:
    manifest = make_manifest()
    manifest.loc[[0, 7, 31], "sha256"] = "f" * 64
    fold = assign_folds(manifest, 5, PARAMS)
    assert fold[0] == fold[7] == fold[31]


def test_the_seed_of_the_split_decides_the_folds() -> None:
    other = PARAMS.model_copy(update={"split": PARAMS.split.model_copy(update={"seed": 2})})
    first, again, changed = (assign_folds(make_manifest(), 5, params) for params in (PARAMS, PARAMS, other))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, changed)


def test_a_class_of_fewer_lesions_than_folds_is_refused() -> None:
    manifest = make_manifest()
    manifest.loc[manifest["lesion_id"].isin([f"lesion_{number}" for number in range(4)]), "label"] = "df"
    with pytest.raises(DataError, match="class df has 4 lesions, too few for 5 folds"):
        assign_folds(manifest, 5, PARAMS)


def test_the_summary_has_mean_and_standard_deviation_over_folds() -> None:
    table = summarize(pd.DataFrame({"accuracy": [0.5, 0.7], "ece": [0.1, 0.1]}), {"accuracy": 0.61, "ece": 0.09})
    assert list(table.loc["accuracy"].dropna()) == pytest.approx([0.6, 0.02**0.5, 0.61])
    assert list(table.loc["ece"].dropna()) == pytest.approx([0.1, 0, 0.09])


def test_every_image_is_predicted_once_and_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    manifest = make_manifest()
    features = np.random.default_rng(0).normal(size=(IMAGES, 2, DIM))
    features[..., 0] += 8 * pd.Categorical(manifest["label"]).codes[:, None]
    output = crossvalidate(tmp_path, manifest, features, "--folds", "2")
    assert "crossvalidate: 2 folds, 180 images predicted" in output
    text = (tmp_path / "metrics/crossvalidation.json").read_text()
    result = json.loads(text)
    assert result["pooled"]["support"] == IMAGES
    assert sum(values["support"] for values in result["pooled"]["per_class"].values()) == IMAGES
    assert result["mean"]["accuracy"] == pytest.approx(result["pooled"]["accuracy"])  # folds of 90 images each
    assert result["pooled"]["accuracy"] > 0.8  # chance is a third
    low, high = result["pooled"]["accuracy_ci"]
    assert low <= result["pooled"]["accuracy"] <= high
    assert 0 <= result["standard_deviation"]["accuracy"] < 0.1
    crossvalidate(tmp_path, manifest, features, "--folds", "2")
    assert (tmp_path / "metrics/crossvalidation.json").read_text() == text


def test_a_head_that_could_only_remember_lesions_is_no_better_than_chance(tmp_path: Path) -> None:
    # the two images of a lesion are alike and say nothing of its class, so that a leak between folds is a success
    of_lesion = np.random.default_rng(1).normal(size=(LESIONS, 1, DIM)).repeat(2, axis=1)
    crossvalidate(tmp_path, make_manifest(seed=2), np.concatenate([of_lesion, of_lesion]), "--folds", "2")
    pooled = json.loads((tmp_path / "metrics/crossvalidation.json").read_text())["pooled"]
    assert abs(pooled["balanced_accuracy"] - 1 / 3) < 4 * np.sqrt(2 / 9 / LESIONS)


@pytest.mark.parametrize("change", ["image", "backbone", "views"])
def test_features_of_something_else_are_refused(tmp_path: Path, change: str) -> None:
    manifest, features = make_manifest(), np.zeros((IMAGES, 1, DIM))
    if change == "image":
        manifest.loc[3, "sha256"] = "f" * 64
    changes = {"backbone": {"backbone": {"image_size": 96}}, "views": {"augmentation": {"views": 7}}}.get(change, {})
    output = crossvalidate(tmp_path, manifest, features, "--folds", "2", status=1, changes=changes)
    assert output.count("\n") == 1
    assert "is of other images, another backbone or other views: run dvc repro features" in output
    assert not (tmp_path / "metrics").exists()


@pytest.mark.parametrize("folds", ["1", "21", "many"])
def test_a_wrong_number_of_folds_is_refused(tmp_path: Path, folds: str) -> None:
    output = crossvalidate(tmp_path, make_manifest(), np.zeros((IMAGES, 1, 2)), "--folds", folds, status=2)
    assert "--folds: " in output


def test_missing_features_and_a_fault_in_a_fold_end_in_one_line(tmp_path: Path) -> None:
    manifest = make_manifest()
    more = pd.concat([manifest, manifest[:1].assign(image_id="new", lesion_id="new")])
    output = crossvalidate(tmp_path, more, np.zeros((IMAGES, 1, 2)), status=1)
    assert output == "error: image new has no features: run dvc repro features\n"
    rare = manifest["lesion_id"].isin(["lesion_0", "lesion_1"])  # one in each fold, too few for its validation part
    output = crossvalidate(
        tmp_path, manifest.assign(label=manifest["label"].mask(rare, "df")), None, "--folds", "2", status=1
    )
    assert output.startswith("error: class df has 1 of ")
    assert output.count("\n") == 1
    assert not (tmp_path / "metrics").exists()
