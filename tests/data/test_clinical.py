"""The groups that the clinical variables make."""

import numpy as np
import pandas as pd

from dermoscopy.data.clinical import clinical_groups


def test_ages_fall_into_bands_and_what_is_empty_is_unknown() -> None:
    ages = [0, 29.9, 30, 44, 45, 59, 60, 74, 75, 120, np.nan]
    manifest = pd.DataFrame(
        {"image_id": map(str, range(11)), "lesion_id": "x", "age": ages, "sex": ["", *["male"] * 10], "label": "nv"}
    )
    table = clinical_groups(manifest)
    assert list(table.columns) == ["image_id", "lesion_id", "group_id", "sex", "age_band"]
    assert list(table["sex"]) == ["unknown", *["male"] * 10]
    bands = ["0-29", "0-29", "30-44", "30-44", "45-59", "45-59", "60-74", "60-74", "75+", "75+", "unknown"]
    assert list(table["age_band"]) == bands


def test_without_clinical_columns_there_are_no_groups() -> None:
    table = clinical_groups(pd.DataFrame({"image_id": ["a"], "lesion_id": ["b"], "label": ["nv"]}))
    assert table.to_dict("records") == [{"image_id": "a", "lesion_id": "b", "group_id": "lesion b"}]
