"""The folds of a cross-validation: stratified, no lesion and no content in two of them."""

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.sources.sample import plan
from dermoscopy.data.split import assign_folds
from dermoscopy.runtime.errors import DataError
from tests.support.labelled_features import make_manifest
from tests.support.params_file import PARAMS


def test_no_lesion_is_in_two_folds_and_all_classes_are_in_each() -> None:
    labels = plan(2000, seed=1).rename(columns={"dx": "label"})  # classes as rare, and lesions as large, as in HAM10000
    fold = pd.Series(assign_folds(labels.assign(sha256=labels["image_id"]), 5, PARAMS.split))
    pairs = pd.DataFrame({"lesion": labels["lesion_id"], "fold": fold}).drop_duplicates()
    assert len(pairs) == labels["lesion_id"].nunique() < 2000
    counts = pd.crosstab(labels["label"], fold.to_numpy())
    assert counts.shape == (7, 5)
    expected = counts.sum(axis="columns") / 5
    assert (counts.sub(expected, axis="index").abs().max(axis="columns") <= 0.1 * expected + 2).all()


def test_grouped_by_image_the_images_of_a_lesion_are_in_any_fold() -> None:
    split = PARAMS.split.model_copy(update={"group": "image"})
    fold = pd.Series(assign_folds(make_manifest(), 5, split))
    assert fold.groupby(make_manifest()["lesion_id"]).nunique().max() == 2


@pytest.mark.parametrize("group", ["lesion", "image"])
def test_images_of_equal_content_share_a_fold(group: str) -> None:
    manifest = make_manifest()
    manifest.loc[[0, 7, 31], "sha256"] = "f" * 64
    fold = assign_folds(manifest, 5, PARAMS.split.model_copy(update={"group": group}))
    assert fold[0] == fold[7] == fold[31]


def test_the_seed_of_the_split_decides_the_folds() -> None:
    other = PARAMS.split.model_copy(update={"seed": 2})
    first, again, changed = (assign_folds(make_manifest(), 5, split) for split in (PARAMS.split, PARAMS.split, other))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, changed)


def test_a_class_of_fewer_lesions_than_folds_is_refused() -> None:
    manifest = make_manifest()
    manifest.loc[manifest["lesion_id"].isin([f"lesion_{number}" for number in range(4)]), "label"] = "df"
    with pytest.raises(DataError, match="class df has 4 lesions, too few for 5 folds"):
        assign_folds(manifest, 5, PARAMS.split)
