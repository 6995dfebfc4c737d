"""Prediction tables: which one is scored, and their columns."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.runtime.paths import PREDICTIONS, PREDICTIONS_TTA


def scored_table(tta: bool) -> Path:
    """Return the prediction table that is scored: of the mean over all views (`evaluate.tta`), or the image alone."""
    return PREDICTIONS_TTA if tta else PREDICTIONS


def class_names(predictions: pd.DataFrame) -> list[str]:
    """Return the classes of a prediction table, in the order of its probability columns."""
    return [column.removeprefix("p_") for column in predictions.columns if column.startswith("p_")]


def probabilities_of(predictions: pd.DataFrame) -> NDArray[np.float64]:
    """Return the probabilities, (images, classes), of a prediction table."""
    return predictions[[f"p_{name}" for name in class_names(predictions)]].to_numpy(np.float64)
