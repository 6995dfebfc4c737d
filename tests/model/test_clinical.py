"""Clinical variables as numbers behind the features."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.model.activation_maps import clinical_shifts
from dermoscopy.model.clinical import ClinicalEncoder, ClinicalFeatures, fit_encoder
from dermoscopy.model.training import predict_views, train_head
from dermoscopy.runtime.errors import DataError
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS


@pytest.fixture
def training() -> pd.DataFrame:
    """Forty images, ten each of four kinds of patient, and two of a place that no other image shows."""
    table = pd.DataFrame(
        {
            "age": [40.0, 60.0, np.nan, 50.0],
            "sex": ["male", "female", "", "male"],
            "localization": ["back", "unknown", "face", "back"],
        }
    )
    rare = pd.DataFrame({"age": 50.0, "sex": "male", "localization": "acral"}, index=range(2))
    return pd.concat([table] * 10 + [rare], ignore_index=True)


def test_numbers_are_standardised_ages_and_a_place_for_each_value(training: pd.DataFrame) -> None:
    encoder = fit_encoder(training, ["age", "sex", "localization"])
    assert encoder.names == [
        *("age", "age: unknown", "sex: female", "sex: male", "sex: unknown"),
        *("localization: back", "localization: face", "localization: unknown"),
    ]
    ten_years = 10 / training["age"].std(ddof=0)
    expected = [
        [-ten_years, 0, 0, 1, 0, 1, 0, 0],
        [ten_years, 0, 1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 1, 0, 1, 0],
        [0, 0, 0, 1, 0, 1, 0, 0],
    ]
    assert encoder.encode(training.head(4)).tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


def test_what_training_hardly_or_never_saw_or_nobody_knows_is_unknown(training: pd.DataFrame) -> None:
    encoder = fit_encoder(training, ["age", "sex", "localization"])
    expected = [0, 1, 0, 0, 1, 0, 0, 1]
    assert encoder.unknown().tolist() == expected
    strange = pd.DataFrame({"age": [np.nan] * 2, "sex": ["other", "unknown"], "localization": ["elbow", "acral"]})
    assert encoder.encode(strange).tolist() == [expected, expected]
    assert encoder.encode(pd.DataFrame({"sex": [" Male "]})).tolist() == [[0, 1, 0, 1, 0, 0, 0, 1]]


def test_what_training_always_knew_is_the_average_where_it_is_unknown() -> None:
    training = pd.DataFrame({"age": [50.0, 60.0] * 20, "sex": ["male"] * 30 + ["female"] * 10})
    encoder = fit_encoder(training, ["age", "sex"])
    assert encoder.names == ["age", "sex: female", "sex: male"]
    assert encoder.unknown().tolist() == [0, 0.25, 0.75]


def test_only_the_variables_that_are_asked_for_are_used(training: pd.DataFrame) -> None:
    assert fit_encoder(training, ["sex"]).names == ["sex: female", "sex: male", "sex: unknown"]
    assert ClinicalEncoder().encode(training).shape == (42, 0)


def test_an_age_that_never_changes_stays_finite() -> None:
    encoder = fit_encoder(pd.DataFrame({"age": [50.0] * 10}), ["age"])
    assert encoder.encode(pd.DataFrame({"age": [50.0, 51.0, np.nan]})).tolist() == [[0], [1], [0]]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"age": [1.0]}),
        pd.DataFrame({"sex": ["", "unknown"] * 20}),
        pd.DataFrame({"sex": [f"text {number}" for number in range(50)]}),
    ],
    ids=["no column", "nothing known", "each another"],
)
def test_a_variable_of_which_too_little_is_known_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"train\.clinical names sex, .* leave it out, or name .* data\.columns\.sex"):
        fit_encoder(table, ["sex"])


def test_the_encoder_is_plain_json_and_comes_back(training: pd.DataFrame) -> None:
    encoder = fit_encoder(training, ["age", "localization"])
    assert ClinicalEncoder.model_validate_json(encoder.model_dump_json()) == encoder


def test_numbers_stand_behind_every_view_of_their_image(tmp_path: Path, training: pd.DataFrame) -> None:
    values = np.arange(4 * 2 * 3, dtype=np.float32).reshape(4, 2, 3)
    features = write_feature_folder(tmp_path / "features", values)
    encoder = fit_encoder(training, ["age", "sex"])
    training = training.head(4)
    images = training.assign(image_id=features.image_ids)[::-1]  # in another order
    both = ClinicalFeatures(features, images, encoder)
    numbers = encoder.encode(training)
    assert both.info.dim == 3 + 5
    rows = np.array([2, 0])
    for view in range(2):
        assert np.array_equal(both.view(view, rows), np.concatenate([values[rows, view], numbers[rows]], axis=1))
    mixed = both.random_views(rows, np.array([1, 0]))
    assert np.array_equal(mixed, np.concatenate([values[[2, 0], [1, 0]], numbers[rows]], axis=1))


def test_a_head_learns_what_only_the_clinical_data_know(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    features = write_feature_folder(tmp_path / "features", random.standard_normal((300, 1, 4)).astype(np.float32))
    target = random.integers(2, size=300)
    place = np.where(target == 1, "face", "back")
    images = pd.DataFrame(
        {"image_id": features.image_ids, "localization": place, "row": np.arange(300), "target": target}
    )
    encoder = fit_encoder(images[:200], ["localization"])
    both = ClinicalFeatures(features, images, encoder)
    train = PARAMS.train.model_copy(update={"epochs": 60, "batch_size": 32, "learning_rate": 0.01})
    head, _ = train_head(both, images[:200], images[200:], 2, train)
    probabilities = predict_views(head, both, np.arange(200, 300))[:, 0]
    assert (probabilities.argmax(axis=1) == target[200:]).mean() > 0.95
    rows = both.view(0, np.arange(5))
    logits = head.activation_maps(rows[:, None, None, :4])[:, 0, 0] + head.shift(rows[:, 4:]) + head.bias
    expected = np.log(head.probabilities(rows).astype(np.float64))
    np.testing.assert_allclose(logits - logits[:, :1], expected - expected[:, :1], atol=1e-4)
    shifts = clinical_shifts(head, encoder)
    assert list(shifts.index) == encoder.names
    against, towards = shifts.to_numpy(np.float64)[encoder.names.index("localization: face")]
    assert against < -0.5 < 0.5 < towards
