"""The benchmark of the features stage: both sides do the same work, and their ratio is right."""

from pathlib import Path

import numpy as np

from benchmarks.features_stage import VIEWS, Stage, describe_speeds
from benchmarks.inputs import draw_photographs
from dermoscopy.data.images import read_image


def test_the_stage_and_the_bare_engine_give_the_same_features(backbones: dict[str, Path], tmp_path: Path) -> None:
    photographs = draw_photographs(tmp_path, 3)
    assert read_image(tmp_path / "ISIC_0000000.jpg").shape == (450, 600, 3)
    stage = Stage(backbones["first"], photographs, tmp_path / "runs")
    expected = stage.bare().reshape(3, VIEWS, -1)
    for turn in range(2):
        for view, chunks in enumerate(stage.stage()):
            for numbers, features in chunks.read():
                assert np.array_equal(features, expected[numbers, view]), turn


def test_a_ratio_is_of_turns_side_by_side() -> None:
    rows = describe_speeds("a", {"stage": [1.0, 10.0, 9.0], "bare engine": [2.0, 10.0, 10.0]})
    assert [row["stage's speed, times this"] for row in rows] == [1.0, 0.9]
