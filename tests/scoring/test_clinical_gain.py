"""What clinical data add to balanced accuracy, of all images and of subgroups."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from dermoscopy.data.tables import write_table
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import IMAGE_ONLY
from dermoscopy.scoring.clinical_gain import COLUMNS, OVERALL, read_image_only, score_gains
from dermoscopy.scoring.comparison import SEED, compare
from tests.support.prediction_tables import drawn_images, make_run, predicted_again


@pytest.fixture
def many() -> pd.DataFrame:
    """300 images of two sexes, 19 of them of a face."""
    face = np.arange(300) < 19
    sex = np.where(np.arange(300) % 3 == 0, "female", "male")
    return drawn_images().assign(sex=sex, localization=np.where(face, "face", "back"))


@pytest.fixture
def image_only(many: pd.DataFrame) -> pd.DataFrame:
    """Worse predictions of the same images, in another order, and of one more image."""
    worse = predicted_again(many, seed=3, skill=1.5)
    return pd.concat([worse[::-1], worse[:1].assign(image_id="another")])


def test_all_images_come_first_and_then_each_group(many: pd.DataFrame, image_only: pd.DataFrame) -> None:
    table = score_gains(many, image_only, seed=1)
    assert list(table.columns) == COLUMNS
    names = [OVERALL, ("sex", "female"), ("sex", "male"), ("localization", "back"), ("localization", "face")]
    assert list(zip(table["variable"], table["group"], strict=True)) == names
    assert list(table["images"]) == [300, 100, 200, 281, 19]
    assert table["lesions"].iloc[0] == many["lesion_id"].nunique()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_both_heads_are_scored_on_the_images_of_the_group(many: pd.DataFrame, image_only: pd.DataFrame) -> None:
    alone = image_only.set_index("image_id")["predicted"]
    for _, row in score_gains(many, image_only, seed=1).iterrows():
        images = many if row["variable"] == OVERALL[0] else many[many[row["variable"]] == row["group"]]
        without = balanced_accuracy_score(images["label"], alone[images["image_id"]])
        with_clinical = balanced_accuracy_score(images["label"], images["predicted"])
        expected = [without, with_clinical, with_clinical - without]
        assert row[["image_only", "with_clinical", "gain"]].tolist() == pytest.approx(expected)


def test_the_interval_is_that_of_a_comparison_of_two_runs(many: pd.DataFrame, image_only: pd.DataFrame) -> None:
    alone = many.assign(predicted=image_only.set_index("image_id")["predicted"][many["image_id"]].to_numpy())
    metrics = compare(make_run("alone", alone), make_run("both", many)).metrics
    found = score_gains(many, image_only, SEED).iloc[0]
    expected = metrics.loc[["balanced_accuracy"], ["difference", "low", "high"]]
    assert [found[["gain", "low", "high"]].tolist()] == expected.to_numpy().tolist()
    assert found["low"] < found["gain"] < found["high"]


def test_a_group_of_few_images_has_no_interval(many: pd.DataFrame, image_only: pd.DataFrame) -> None:
    limits = score_gains(many, image_only, seed=1).set_index("group")[["low", "high"]].isna().all(axis=1)
    assert limits.to_dict() == {"all images": False, "female": False, "male": False, "back": False, "face": True}


def test_equal_predictions_gain_nothing_and_have_no_interval(many: pd.DataFrame) -> None:
    table = score_gains(many, many, seed=1)
    assert (table["gain"] == 0).all()
    assert table[["low", "high"]].isna().all(axis=None)


def test_without_predictions_from_the_image_alone_the_table_is_empty(many: pd.DataFrame) -> None:
    table = score_gains(many, many[:0], seed=1)
    assert table.empty
    assert list(table.columns) == COLUMNS


def test_the_views_that_are_scored_are_read(
    image_only: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"predictions_image_only\.csv is missing"):
        read_image_only(tta=True)
    table = image_only[["image_id", "part", "label", "predicted"]]
    views = [table.assign(tta="false"), table.assign(predicted="nv", tta="true")]
    write_table(pd.concat(views), IMAGE_ONLY)
    assert read_image_only(tta=False).to_numpy().tolist() == table.to_numpy().tolist()
    assert read_image_only(tta=True)["predicted"].tolist() == ["nv"] * 301
