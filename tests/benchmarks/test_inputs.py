"""The size of the work that the benchmarks of engines measure is counted right."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.inputs import count_multiply_adds
from tests.conftest import BACKBONE_SIZE


def test_multiply_adds_are_those_counted_by_hand(keras: Any) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, padding="same"),  # 8 x 8 places, 3 x 3 x 3 to 4
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, strides=2, padding="same"),  # 4 x 4 places, 3 x 3 each of 4
            layers.Conv2D(8, 3, groups=2),  # 2 x 2 places, 3 x 3 x 2 to 8
            layers.Dense(5),  # 2 x 2 places, 8 to 5
            layers.Flatten(),
            layers.Dense(7),  # 20 to 7
        ]
    )
    by_hand = 64 * 27 * 4 + 16 * 9 * 4 + 4 * 18 * 8 + 4 * 8 * 5 + 20 * 7
    assert count_multiply_adds(model) == by_hand


def test_multiply_adds_of_mobilenet_are_those_of_its_paper(keras: Any, backbones: dict[str, Path]) -> None:
    from dermoscopy.features.networks import load_backbone

    of_paper = 300e6 * (BACKBONE_SIZE / 224) ** 2  # 300 million at 224 pixels; each layer's output shrinks alike
    assert count_multiply_adds(load_backbone(backbones["first"])) == pytest.approx(of_paper, rel=0.01)
