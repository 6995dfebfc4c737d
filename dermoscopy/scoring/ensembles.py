"""Ensembles: the mean of the probabilities that several runs give the same images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.model.decision import adjust
from dermoscopy.scoring.bootstrap import Floats
from dermoscopy.scoring.definitions import losses_of
from dermoscopy.scoring.metrics import point_metrics
from dermoscopy.scoring.predictions import class_names, probabilities_of, with_probabilities
from dermoscopy.scoring.runs import Run, require_same_images

NAME = "ensemble"
PICKS = 50


def require_members(runs: Sequence[Run]) -> None:
    """Raise a DataError unless all runs have the same images, labels and classes in validation and in test."""
    for other in runs[1:]:
        require_same_images(runs[0], other)
        require_same_images(runs[0], other, "validation")


def combine(members: Sequence[Run], weights: Sequence[int]) -> Run:
    """Return the ensemble, as a run without params of its own; the rest is as of the first member.

    Its probabilities are the weighted mean of the members'. The predicted class is that of the largest mean of the
    probabilities that the members decide by, which are adjusted where `evaluate.prior_exponent` is not 0: so members
    may have different exponents and priors, and an ensemble of one member is this member.

    Args:
        members: runs that pass `require_members`.
        weights: how often each member counts; not all are 0.
    """

    def mean(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
        deciding = [deciding_probabilities(*pair) for pair in zip(members, tables, strict=True)]
        chosen = np.average(deciding, axis=0, weights=weights).argmax(axis=1)
        probabilities = np.average([probabilities_of(table) for table in tables], axis=0, weights=weights)
        predicted = np.array(class_names(tables[0]))[chosen]
        return with_probabilities(tables[0], probabilities).assign(predicted=predicted)

    return replace(
        members[0],
        name=NAME,
        params={},
        prior=None,
        validation=mean([member.validation for member in members]),
        test=mean([member.test for member in members]),
    )


def deciding_probabilities(member: Run, predictions: pd.DataFrame) -> Floats:
    """Return the probabilities, (images, classes), whose largest is of the class that the member predicts."""
    probabilities = probabilities_of(predictions)
    if member.prior is None:
        return probabilities
    return adjust(probabilities, member.prior, member.params["evaluate.prior_exponent"])


def best_member(members: Sequence[Run]) -> Run:
    """Return the member with the highest balanced accuracy on validation, the first of equal ones."""
    return max(members, key=lambda member: point_metrics(member.validation).balanced_accuracy)


def select(members: Sequence[Run], picks: int = PICKS) -> list[int]:
    """Return the weights of a greedy ensemble: how often each member was picked.

    Forward selection with replacement (Caruana et al. 2004, Ensemble Selection from Libraries of Models, ICML): the
    first pick is the member of the lowest log loss on validation, each further one that with which the mean has the
    lowest, the first of equal ones. Of the ensembles after each pick, the first of the lowest log loss is returned. The
    picks do not end where none lowers it: half of a weak member may be too much where a tenth of it helps.

    Log loss, because it changes smoothly with the mean, where a metric that counts images jumps, on a few images of
    rare classes; and because it asks for the probabilities alone: `evaluate.prior_exponent`, which trades accuracy for
    balanced accuracy, cannot change it. So it prefers members whose probabilities fit how frequent the classes are.

    Args:
        members: runs that pass `require_members`.
        picks: how many.
    """
    images = members[0].validation
    probabilities = [probabilities_of(member.validation) for member in members]

    def log_loss(weights: NDArray[np.int64]) -> float:
        mean = np.average(probabilities, axis=0, weights=weights)
        return float(losses_of(with_probabilities(images, mean)).mean())

    weights, each = np.zeros(len(members), np.int64), np.eye(len(members), dtype=np.int64)
    nested = []
    for _ in range(picks):
        weights = min(weights + each, key=log_loss)
        nested.append(weights)
    return [int(weight) for weight in min(nested, key=log_loss)]
