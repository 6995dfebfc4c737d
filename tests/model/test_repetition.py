"""One fold of a cross-validation: what is predicted, and that nothing leaks between folds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.split import assign_folds
from dermoscopy.model.crossvalidation import predict_fold, require_current_features
from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.metrics import point_metrics
from dermoscopy.scoring.predictions import probabilities_of
from tests.support.labelled_features import CLASSES, DIM, IMAGES, LESIONS, make_manifest, write_project


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own; `predict_fold` sets these variables, for it has a process of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")


def test_a_fold_is_predicted_as_the_scored_views_say_and_twice_the_same(tmp_path: Path) -> None:
    manifest = make_manifest()
    features = np.random.default_rng(0).normal(size=(IMAGES, 2, DIM))
    features[..., 0] += 8 * pd.Categorical(manifest["label"]).codes[:, None]
    params = write_project(tmp_path, manifest, features)
    fold = assign_folds(manifest, 3, params.split)
    table = predict_fold(params, manifest, fold, 1)
    held_out = manifest[fold == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        table[["image_id", "label", "lesion_id"]], held_out[["image_id", "label", "lesion_id"]]
    )
    assert set(table["part"]) == {"fold 2"}
    np.testing.assert_allclose(probabilities_of(table).sum(axis=1), 1, atol=1e-5)
    assert point_metrics(table).accuracy > 0.8  # chance is a third
    pd.testing.assert_frame_equal(predict_fold(params, manifest, fold, 1), table)
    alone = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"tta": False})})
    assert not np.array_equal(probabilities_of(predict_fold(alone, manifest, fold, 1)), probabilities_of(table))


def test_a_head_that_could_only_remember_lesions_is_no_better_than_chance(tmp_path: Path) -> None:
    # the two images of a lesion are alike and have nothing to do with its class: only a leak between folds could help
    of_lesion = np.random.default_rng(1).normal(size=(LESIONS, 1, DIM))
    manifest = make_manifest(seed=2)
    params = write_project(tmp_path, manifest, np.concatenate([of_lesion, of_lesion]))
    fold = assign_folds(manifest, 2, params.split)
    tables = pd.concat([predict_fold(params, manifest, fold, number) for number in range(2)])
    assert len(tables) == IMAGES
    balanced_accuracy = point_metrics(tables).balanced_accuracy
    assert abs(balanced_accuracy - 1 / len(CLASSES)) < 4 * np.sqrt(2 / 9 / LESIONS)


def test_a_class_with_too_few_lesions_outside_the_fold_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest()
    rare = manifest["lesion_id"].isin(["lesion_0", "lesion_1"])  # one in each fold, too few for its validation part
    manifest = manifest.assign(label=manifest["label"].mask(rare, "df"))
    params = write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)))
    with pytest.raises(DataError, match=r"^class df has 1 of "):
        predict_fold(params, manifest, assign_folds(manifest, 2, params.split), 0)


def test_features_of_these_images_this_backbone_and_these_views_are_current(tmp_path: Path) -> None:
    manifest = make_manifest()
    params = write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)))
    require_current_features(manifest, params)
    require_current_features(manifest[::-1][10:], params)


@pytest.mark.parametrize(
    ("section", "change"),
    [("backbone", {"image_size": 96}), ("backbone", {"name": "DenseNet121"}), ("augmentation", {"views": 7})],
)
def test_features_of_another_backbone_or_other_views_are_refused(
    tmp_path: Path, section: str, change: dict[str, object]
) -> None:
    manifest = make_manifest()
    params = write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)), {section: change})
    with pytest.raises(DataError, match=r"another backbone or other views: run dvc repro features$"):
        require_current_features(manifest, params)


def test_features_of_other_images_are_refused(tmp_path: Path) -> None:
    manifest = make_manifest()
    params = write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)))
    changed = manifest.assign(sha256=manifest["sha256"].mask(manifest.index == 3, "f" * 64))
    with pytest.raises(DataError, match=r"is of other images, .*: run dvc repro features$"):
        require_current_features(changed, params)
    more = pd.concat([manifest, manifest[:1].assign(image_id="new", lesion_id="new")])
    with pytest.raises(DataError, match=r"^image new has no features: run dvc repro features$"):
        require_current_features(more, params)
