"""Balanced accuracy by sex, age, localization and kind of diagnosis."""

import numpy as np
import pandas as pd

from dermoscopy.data.clinical import VARIABLES
from dermoscopy.data.groups import count_known
from dermoscopy.runtime.errors import first_few
from dermoscopy.scoring.definitions import count_metrics
from dermoscopy.scoring.intervals import lesions_of_classes, mean_interval
from dermoscopy.scoring.predictions import class_names

FEW = 20  # images; fewer say little about a subgroup


def score_subgroups(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `part, variable, group, images, lesions, balanced_accuracy, low, high, note` of one part's subgroups.

    Balanced accuracy is the mean recall of the classes that occur in the subgroup; `note` names those that do not,
    because the numbers of subgroups with other classes do not compare. The interval, 95 %, is `mean_interval`.
    `lesions` is missing where none is known.
    """
    rows = []
    for variable in (name for name in VARIABLES if name in predictions):
        for group, images in predictions.groupby(variable, sort=True):
            absent = [name for name in class_names(predictions) if not (images["label"] == name).any()]
            lesions = count_known(images["lesion_id"])
            counts = count_metrics(images)(np.ones((1, len(images))))
            limits = mean_interval(counts["recall"][0], lesions_of_classes(images)[0])
            notes = [f"under {FEW} images"] if len(images) < FEW else []
            notes += [f"without {first_few(absent, shown=9)}"] if absent else []
            scores = [counts["balanced_accuracy"][0], *limits, "; ".join(notes)]
            rows.append([images["part"].iloc[0], variable, group, len(images), lesions, *scores])
    columns = ["part", "variable", "group", "images", "lesions", "balanced_accuracy", "low", "high", "note"]
    return pd.DataFrame(rows, columns=columns).astype({"lesions": "Int64"})  # whole numbers, or missing
