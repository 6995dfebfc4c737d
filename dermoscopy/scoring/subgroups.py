"""Balanced accuracy by sex, age, localization and kind of diagnosis."""

import numpy as np
import pandas as pd

from dermoscopy.data.clinical import VARIABLES
from dermoscopy.scoring.bootstrap import bootstrap, interval
from dermoscopy.scoring.definitions import count_metrics
from dermoscopy.scoring.metrics import enough_lesions
from dermoscopy.scoring.predictions import class_names

FEW = 20  # images; fewer say little about a subgroup


def score_subgroups(predictions: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return `part, variable, group, images, lesions, balanced_accuracy, low, high, note` of one part's subgroups.

    Balanced accuracy is the mean recall of the classes that occur in the subgroup; `note` names those that do not,
    because the numbers of subgroups with other classes do not compare. The interval, 95 %, resamples the lesions of the
    subgroup and is empty where there is only one.
    """
    rows = []
    for variable in (name for name in VARIABLES if name in predictions):
        for group, images in predictions.groupby(variable, sort=True):
            absent = [name for name in class_names(predictions) if not (images["label"] == name).any()]
            lesions = images["lesion_id"].nunique()
            counts = count_metrics(images)
            balanced = counts(np.ones((1, len(images))))["balanced_accuracy"]
            draws = bootstrap(counts, images["lesion_id"], seed)["balanced_accuracy"]
            low, high = (interval(draws) if enough_lesions(images)["balanced_accuracy"] else None) or (np.nan, np.nan)
            notes = [f"under {FEW} images"] if len(images) < FEW else []
            notes += [f"without {', '.join(absent)}"] if absent else []
            row = [images["part"].iloc[0], variable, group, len(images), lesions, balanced[0], low, high]
            rows.append([*row, "; ".join(notes)])
    columns = ["part", "variable", "group", "images", "lesions", "balanced_accuracy", "low", "high", "note"]
    return pd.DataFrame(rows, columns=columns)
