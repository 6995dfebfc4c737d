"""Balanced accuracy of the images that share something."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score

from dermoscopy.scoring.bootstrap import bootstrap, interval
from dermoscopy.scoring.definitions import count_metrics
from dermoscopy.scoring.subgroups import score_subgroups
from tests.support.prediction_tables import drawn_images


@pytest.fixture
def many() -> pd.DataFrame:
    return drawn_images()


def test_each_group_has_its_own_balanced_accuracy_interval_and_numbers(many: pd.DataFrame) -> None:
    sex = np.where(np.arange(300) % 3 == 0, "female", "male")
    table = score_subgroups(many.assign(sex=sex), seed=1)
    assert list(table["group"]) == ["female", "male"]
    assert set(table["part"]) == {"test"}
    assert set(table["variable"]) == {"sex"}
    for group, row in table.set_index("group").iterrows():
        images = many[sex == group]
        expected = balanced_accuracy_score(images["label"], images["predicted"])
        assert row["balanced_accuracy"] == pytest.approx(expected)
        assert (row["images"], row["lesions"]) == (len(images), images["lesion_id"].nunique())
        draws = bootstrap(count_metrics(images), images["lesion_id"], 1)["balanced_accuracy"]
        assert (row["low"], row["high"]) == interval(draws)


def test_groups_are_made_of_every_variable_of_the_table(many: pd.DataFrame) -> None:
    variables = {"sex": "male", "age_band": "75+", "localization": "back", "dx_type": "histo"}
    table = score_subgroups(many.assign(**variables), seed=1)
    assert dict(zip(table["variable"], table["group"], strict=True)) == variables


def test_without_clinical_variables_there_are_no_subgroups(many: pd.DataFrame) -> None:
    assert score_subgroups(many, seed=1).empty


def test_small_groups_and_groups_without_a_class_are_noted(many: pd.DataFrame) -> None:
    face = many.index.isin(many.index[many["label"] == "nv"][:19])
    table = score_subgroups(many.assign(localization=np.where(face, "face", "back")), seed=1).set_index("group")
    assert table.loc["face", "note"] == "under 20 images; without akiec, bcc, bkl, mel"
    assert table.loc["back", "note"] == ""


def test_a_group_of_one_lesion_has_no_interval(many: pd.DataFrame) -> None:
    table = score_subgroups(many[:1].assign(sex="male"), seed=1)
    assert table[["low", "high"]].isna().all(axis=None)
