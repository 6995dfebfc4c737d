"""The exported classifier: a second input where the head uses clinical variables, and what is said of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.images import read_image
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.clinical import ClinicalEncoder
from tests.support.classifier_project import compute_features, write_classifier
from tests.support.clinical import make_encoder
from tests.support.params_file import write_params
from tests.support.photographs import write_photographs
from tests.support.tool import run_tool
from tools.export import second_input_in_words

ENCODER = make_encoder(age=(51.25, 15.5), sex=["female", "male"], localization=["back", "lower extremity"])
KNOWN = pd.DataFrame(
    {"age": [20, np.nan, 80], "sex": ["male", "female", ""], "localization": ["back", "elbow", "lower extremity"]}
)


def test_the_numbers_of_the_second_input_and_those_of_nothing_known_are_said() -> None:
    assert second_input_in_words(ENCODER) == (
        "its second input, clinical, takes 8 numbers: age, age: unknown, sex: female, sex: male, sex: unknown, "
        "localization: back, localization: lower extremity, localization: unknown (age is (years - 51.25) / 15.5, 0 "
        "where unknown; others are 1 where it is so and 0 where not); zeros do not mean unknown: where nothing is "
        "known the numbers are 0, 1, 0, 0, 1, 0, 0, 1"
    )
    assert second_input_in_words(make_encoder(sex=["male"])) == (
        "its second input, clinical, takes 2 numbers: sex: male, sex: unknown (1 where it is so and 0 where not); "
        "zeros do not mean unknown: where nothing is known the numbers are 0, 1"
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoder", [ENCODER, None])
def test_the_exported_classifier_gives_the_probabilities_of_predict(
    tmp_path: Path, backbones: dict[str, Path], keras: Any, encoder: ClinicalEncoder | None
) -> None:
    write_params(tmp_path, {})
    files = write_photographs(tmp_path / "images", 3)
    features = compute_features(backbones["first"], files)
    write_classifier(tmp_path, backbones["first"], features.reshape(-1, features.shape[-1]), encoder)
    KNOWN.assign(image=[file.name for file in files]).to_csv(tmp_path / "known.csv", index=False)

    said = run_tool("export", tmp_path).out.splitlines()
    given = ["--clinical", "known.csv"] if encoder else []
    run_tool("predict", tmp_path, "images", "--no-tta", "--csv", "predicted.csv", *given)
    expected = pd.read_csv(tmp_path / "predicted.csv").filter(regex=r"^p_(bkl|mel|nv)$").to_numpy()

    classifier = keras.models.load_model(tmp_path / "models/classifier.keras", safe_mode=True)
    images = np.stack([render_views(read_image(file), [Warp()], 64)[0] for file in files]).astype(np.float32)
    if encoder is None:
        assert len(said) == 1
        np.testing.assert_allclose(classifier.predict(images, verbose=0), expected, atol=1e-4)
        return
    assert said[1] == f"export: {second_input_in_words(encoder)}"
    numbers = encoder.encode(KNOWN)
    np.testing.assert_allclose(classifier.predict([images, numbers], verbose=0), expected, atol=1e-4)
    named = classifier.predict({"image": images, "clinical": numbers}, verbose=0)
    np.testing.assert_allclose(named, expected, atol=1e-4)
    others = classifier.predict([images, numbers[::-1]], verbose=0)
    assert np.abs(others - expected).max() > 1e-2
