"""Comparing runs that were trained with several seeds: the table, the verdict, and what may not be compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.model.repetition import Training
from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.comparison import corrected_difference
from dermoscopy.scoring.metrics import point_metrics
from dermoscopy.scoring.repeated_runs import RepeatedRun, difference_table, repeated_verdict, require_same_parts
from tests.support.params_file import PARAMS
from tests.support.prediction_tables import eight_images


def repeated(name: str, balanced_accuracies: list[float]) -> RepeatedRun:
    """Return a run with these values, tested on 20 images and trained on 80."""
    metrics = [
        point_metrics(eight_images()).model_copy(update={"balanced_accuracy": value}) for value in balanced_accuracies
    ]
    return RepeatedRun(name, metrics, training_images=80, test_images=20)


def test_the_table_has_both_means_and_the_corrected_difference() -> None:
    first, other = repeated("first", [0.5, 0.6, 0.4]), repeated("other", [0.6, 0.75, 0.55])
    table, difference = difference_table(first, other)
    expected = corrected_difference(np.array([0.1, 0.15, 0.15]), 20, 80)
    assert list(table.columns) == ["first", "other", "difference", "low", "high", "p"]
    assert list(table.loc["balanced_accuracy"]) == pytest.approx(
        [0.5, 1.9 / 3, expected.mean, expected.low, expected.high, expected.p_value]
    )
    assert difference.mean == pytest.approx(expected.mean)
    assert table.loc["accuracy", "difference"] == 0


@pytest.mark.parametrize(
    ("values", "p", "verdict"),
    [
        ([0.6, 0.75, 0.55], 0.01, "other is better than first: balanced accuracy +0.133, 95 % interval"),
        ([0.4, 0.45, 0.25], 0.01, "other is worse than first: balanced accuracy -0.133, 95 % interval"),
        ([0.6, 0.75, 0.55], 0.05, "other is not distinguishable from first with this much data: "),
        ([0.6, 0.7, 0.5], 1.0, "other is not distinguishable from first with this much data: "),
        ([0.5, 0.6, 0.4], 1.0, "first and other are identical: the same test metrics with every seed."),
    ],
)
def test_the_verdict_goes_by_the_p_value_and_the_sign(values: list[float], p: float, verdict: str) -> None:
    first, other = repeated("first", [0.5, 0.6, 0.4]), repeated("other", values)
    assert repeated_verdict(first, other, difference_table(first, other)[1], p).startswith(verdict)


def test_other_parts_or_labels_are_refused() -> None:
    images = pd.DataFrame({"image_id": ["a", "b"], "label": ["mel", "nv"], "sha256": ["1", "2"]})
    ours = [Training(PARAMS, images, pd.Series(["train", "test"]), Path())]
    require_same_parts("HEAD", ours, "other", ours)
    for theirs in (
        Training(PARAMS, images, pd.Series(["test", "train"]), Path()),
        Training(PARAMS, images.assign(label="nv"), pd.Series(["train", "test"]), Path()),
        Training(PARAMS, images.assign(sha256="2"), pd.Series(["train", "test"]), Path()),
    ):
        with pytest.raises(DataError, match=r"^HEAD and other cannot be compared: with seed 1 they have other images"):
            require_same_parts("HEAD", ours, "other", [theirs])
