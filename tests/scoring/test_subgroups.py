"""Balanced accuracy of the images that share something."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from dermoscopy.scoring.metrics import score
from dermoscopy.scoring.subgroups import score_subgroups
from tests.support.prediction_tables import drawn_images


@pytest.fixture
def many() -> pd.DataFrame:
    return drawn_images()


def test_each_group_has_its_own_balanced_accuracy_interval_and_numbers(many: pd.DataFrame) -> None:
    sex = np.where(np.arange(300) % 3 == 0, "female", "male")
    table = score_subgroups(many.assign(sex=sex))
    assert list(table["group"]) == ["female", "male"]
    assert set(table["part"]) == {"test"}
    assert set(table["variable"]) == {"sex"}
    for group, row in table.set_index("group").iterrows():
        images = many[sex == group]
        expected = balanced_accuracy_score(images["label"], images["predicted"])
        assert row["balanced_accuracy"] == pytest.approx(expected)
        assert (row["images"], row["lesions"]) == (len(images), images["lesion_id"].nunique())
        assert (row["low"], row["high"]) == score(images, ["mel"], seed=1).balanced_accuracy_ci


def test_groups_are_made_of_every_variable_of_the_table(many: pd.DataFrame) -> None:
    variables = {"sex": "male", "age_band": "75+", "localization": "back", "dx_type": "histo"}
    table = score_subgroups(many.assign(**variables))
    assert dict(zip(table["variable"], table["group"], strict=True)) == variables


def test_without_clinical_variables_there_are_no_subgroups(many: pd.DataFrame) -> None:
    assert score_subgroups(many).empty


def test_small_groups_and_groups_without_a_class_are_noted(many: pd.DataFrame) -> None:
    face = many.index.isin(many.index[many["label"] == "nv"][:19])
    table = score_subgroups(many.assign(localization=np.where(face, "face", "back"))).set_index("group")
    assert table.loc["face", "note"] == "under 20 images; without akiec, bcc, bkl, mel"
    assert table.loc["back", "note"] == ""


def test_a_group_of_one_lesion_has_a_wide_interval(many: pd.DataFrame) -> None:
    (row,) = score_subgroups(many[:1].assign(sex="male")).to_dict("records")
    assert 0 <= row["low"] <= row["balanced_accuracy"] <= row["high"] <= 1
    assert row["high"] - row["low"] > 0.9


def test_lesions_are_counted_where_they_are_known(many: pd.DataFrame, tmp_path: Path) -> None:
    sex = np.where(np.arange(300) % 3 == 0, "female", "male")
    known = many.assign(sex=sex, lesion_id=many["lesion_id"].mask(sex == "male", ""))
    score_subgroups(known).to_csv(tmp_path / "subgroups.csv", index=False)
    written = pd.read_csv(tmp_path / "subgroups.csv", dtype=str, keep_default_na=False)
    assert written["lesions"].to_list() == [str(many["lesion_id"][sex == "female"].nunique()), ""]
