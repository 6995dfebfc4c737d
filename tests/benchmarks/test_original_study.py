"""The benchmark against the original study: its recipe is what it says, and the arithmetic is right."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.inputs import draw_photographs
from benchmarks.original_study import (
    EPOCHS,
    HEAD_EPOCHS,
    IMAGES,
    OURS,
    TRAINING,
    VALIDATION,
    Measured,
    Notebook,
    extrapolate,
    head_seconds,
)


@pytest.fixture(scope="module")
def notebook(keras: Any, tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    photographs = draw_photographs(tmp_path_factory.mktemp("photographs"), 12)
    return Notebook("MobileNetV2", photographs, training=8, size=64)


def test_the_recipe_reads_all_photographs(notebook: Notebook) -> None:
    [(images, labels)] = notebook.training
    assert images.shape == (8, 64, 64, 3)
    assert labels.numpy().tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    [(images, _)] = notebook.validation
    assert len(images) == 4


@pytest.mark.slow
def test_the_recipe_trains_the_head_and_leaves_the_backbone(notebook: Notebook) -> None:
    network = next(layer for layer in notebook.model.layers if layer.name.startswith("mobilenet"))
    before = [weight.numpy() for weight in network.weights]
    head = [weight.numpy() for weight in notebook.model.trainable_weights]
    assert [weight.shape for weight in head] == [(1280, 7), (7,)]
    notebook.epoch()
    assert all(np.array_equal(old, new.numpy()) for old, new in zip(before, network.weights, strict=True))
    assert not np.array_equal(head[0], notebook.model.trainable_weights[0].numpy())


def test_extrapolation_is_in_proportion_to_images_and_epochs() -> None:
    a_second_each = Measured("any", 3600.0 * (TRAINING + VALIDATION), 3600.0 * OURS, 7200.0, 3600.0, 360.0)
    row = extrapolate(a_second_each)
    ours = IMAGES + 2 + 1 + HEAD_EPOCHS / 10
    assert row[f"the study, {EPOCHS} epochs (h)"] == EPOCHS * IMAGES
    assert row["ours (h)"] == pytest.approx(ours)
    assert row["times faster"] == pytest.approx(EPOCHS * IMAGES / ours)


def test_the_head_is_trained_on_features_of_the_full_form(tmp_path: Path) -> None:
    an_epoch, once = head_seconds(tmp_path / "features", dim=8, images=70)
    assert an_epoch + once > 0
