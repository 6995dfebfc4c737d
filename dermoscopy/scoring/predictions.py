"""Prediction tables: which one is scored, which class it decides for, and its columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.tables import read_table
from dermoscopy.model.decision import choose_class
from dermoscopy.model.head_info import read_head_info
from dermoscopy.runtime.paths import PREDICTIONS, PREDICTIONS_TTA


def scored_table(tta: bool) -> Path:
    """Return the prediction table that is scored: of the mean over all views (`evaluate.tta`), or the image alone."""
    return PREDICTIONS_TTA if tta else PREDICTIONS


def read_scored(tta: bool, prior_exponent: float) -> pd.DataFrame:
    """Return the prediction table that is scored, with the classes that `evaluate.prior_exponent` decides for.

    Raises:
        DataError: the table or, unless the exponent is 0, the description of the head is missing or cannot be read.
    """
    predictions = read_table(scored_table(tta), "image_id", "part", "label", "predicted")
    if prior_exponent == 0:  # as the table is; and runs from before there was a prior can be read
        return predictions
    return decide(predictions, read_head_info().prior, prior_exponent)


def decide(predictions: pd.DataFrame, prior: Sequence[float], exponent: float) -> pd.DataFrame:
    """Return the table with `predicted` chosen anew; see `choose_class`."""
    chosen = choose_class(probabilities_of(predictions), prior, exponent)
    return predictions.assign(predicted=np.array(class_names(predictions))[chosen])


def class_names(predictions: pd.DataFrame) -> list[str]:
    """Return the classes of a prediction table, in the order of its probability columns."""
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def probabilities_of(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probabilities, (images, classes), of a prediction table."""
    return predictions[[f"p_{name}" for name in class_names(predictions)]].to_numpy(np.float64)


def with_probabilities(predictions: pd.DataFrame, probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Return the table with other probabilities, (images, classes); `predicted` stays."""
    return predictions.assign(**{f"p_{name}": probabilities[:, i] for i, name in enumerate(class_names(predictions))})


def targets_of(predictions: pd.DataFrame) -> NDArray[np.intp]:
    """Return the place, (images,), of each label among the classes of a prediction table."""
    return pd.Index(class_names(predictions)).get_indexer(pd.Index(predictions["label"]))
