"""Training the head again: what is predicted, that nothing leaks, and which features are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.data.split import assign_parts
from dermoscopy.model.labelled_images import class_shares
from dermoscopy.model.repetition import Training, require_current_features, train_and_predict, trainings_of_seeds
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Params
from dermoscopy.scoring.metrics import point_metrics
from dermoscopy.scoring.predictions import probabilities_of
from tests.support.labelled_features import CLASSES, DIM, IMAGES, LESIONS, make_manifest, write_project


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a folder of its own; a training sets these variables, for it has a process of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")


def make_training(params: Params, manifest: pd.DataFrame) -> Training:
    """Return the training that the stages would do."""
    return Training(params, manifest[["image_id", "label"]], assign_parts(manifest, params.split))


def separable_features(manifest: pd.DataFrame) -> NDArray[np.float64]:
    """Return features, two views an image, that tell the classes apart."""
    features = np.random.default_rng(0).normal(size=(IMAGES, 2, DIM))
    features[..., 0] += 8 * pd.Categorical(manifest["label"]).codes[:, None]
    return features


def test_all_but_the_training_images_are_predicted_as_the_scored_views_say_and_twice_the_same(tmp_path: Path) -> None:
    manifest = make_manifest()
    params = write_project(tmp_path, manifest, separable_features(manifest))
    training = make_training(params, manifest)
    table = train_and_predict(training).predictions
    held_out = manifest.assign(part=training.part)[training.part != "train"].reset_index(drop=True)
    columns = ["image_id", "part", "label"]
    pd.testing.assert_frame_equal(table[columns], held_out[columns])
    np.testing.assert_allclose(probabilities_of(table).sum(axis=1), 1, atol=1e-5)
    assert point_metrics(table).accuracy > 0.8  # chance is a third
    pd.testing.assert_frame_equal(train_and_predict(training).predictions, table)
    alone = params.model_copy(update={"evaluate": params.evaluate.model_copy(update={"tta": False})})
    of_alone = train_and_predict(make_training(alone, manifest)).predictions
    assert not np.array_equal(probabilities_of(of_alone), probabilities_of(table))


def test_fewer_views_than_there_are_are_those_of_a_project_that_has_no_more(tmp_path: Path) -> None:
    manifest = make_manifest()
    features = separable_features(manifest)
    more, fewer = tmp_path / "more", tmp_path / "fewer"
    write_project(more, manifest, np.concatenate([features, features + 1], axis=1))
    params = write_project(fewer, manifest, features, {"augmentation": {"views": 1}})
    images, part = manifest[["image_id", "label"]], assign_parts(manifest, params.split)
    of_more, of_fewer = (
        train_and_predict(Training(params, images, part, folder)).predictions for folder in (more, fewer)
    )
    pd.testing.assert_frame_equal(of_more, of_fewer)


def test_each_seed_is_that_of_split_and_training(tmp_path: Path) -> None:
    manifest = make_manifest()
    params = write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)))
    for seed, training in zip([3, 4], trainings_of_seeds(params, manifest, [3, 4]), strict=True):
        assert training.params.split.seed == training.params.train.seed == seed
        assert list(training.part) == list(assign_parts(manifest, training.params.split))
        learnt = manifest["label"][training.part == "train"]
        assert training.prior == pytest.approx(class_shares(learnt, CLASSES))
        others = {"split": params.split, "train": params.train}
        assert training.params.model_copy(update=others) == params


def test_a_head_that_could_only_remember_lesions_is_no_better_than_chance(tmp_path: Path) -> None:
    # the two images of a lesion are alike and have nothing to do with its class: only a leak between parts could help
    of_lesion = np.random.default_rng(1).normal(size=(LESIONS, 1, DIM))
    manifest = make_manifest(seed=2)
    params = write_project(
        tmp_path, manifest, np.concatenate([of_lesion, of_lesion]), {"split": {"validation": 0.2, "test": 0.4}}
    )
    test = train_and_predict(make_training(params, manifest)).predictions.query("part == 'test'")
    balanced_accuracy = point_metrics(test).balanced_accuracy
    assert abs(balanced_accuracy - 1 / len(CLASSES)) < 4 * np.sqrt(2 / 9 / (len(test) / 2))


def test_features_of_these_images_this_backbone_and_these_views_are_current(tmp_path: Path) -> None:
    manifest = make_manifest()
    params = write_project(tmp_path, manifest, np.zeros((IMAGES, 1, DIM)))
    require_current_features(manifest, params)
    require_current_features(manifest[::-1][10:], params)
    fewer = params.model_copy(update={"augmentation": params.augmentation.model_copy(update={"views": 0})})
    require_current_features(manifest, fewer)


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("backbone", {"image_size": 96}),
        ("backbone", {"image_size": [224, 448]}),
        ("backbone", {"name": "DenseNet121"}),
        ("augmentation", {"views": 7}),
        ("augmentation", {"views": 0, "seed": 9}),
    ],
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
