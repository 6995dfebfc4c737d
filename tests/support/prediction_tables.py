"""Prediction tables for tests."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from dermoscopy.data.groups import group_ids
from dermoscopy.runtime.paths import PREDICTIONS_TTA
from dermoscopy.scoring.predictions import class_names, decide, targets_of, with_probabilities
from dermoscopy.scoring.runs import Run

# of the five classes of drawn images
SHARES = [0.04, 0.06, 0.1, 0.2, 0.6]


def make_predictions(
    labels: list[str], probabilities: Any, classes: list[str], part: str = "test", lesions: list[str] | None = None
) -> pd.DataFrame:
    """Return a prediction table with `lesion_id` and `group_id`; without `lesions` an image is its own lesion."""
    values = np.asarray(probabilities, np.float32)
    table = pd.DataFrame({"image_id": [f"{part}_{number}" for number in range(len(labels))], "part": part})
    table["label"] = labels
    table["predicted"] = np.array(classes)[values.argmax(axis=1)]
    table["lesion_id"] = table["image_id"] if lesions is None else lesions
    table["group_id"] = group_ids(table)
    return table.join(pd.DataFrame(values, columns=[f"p_{name}" for name in classes]))


def eight_images() -> pd.DataFrame:
    """Return a case for sums by hand.

    Of four nv one is taken for mel and one for bkl, of three mel one for nv; the one bkl is found.
    """
    return make_predictions(
        ["nv", "nv", "nv", "nv", "mel", "mel", "mel", "bkl"],
        [
            [0.1, 0.2, 0.7],
            [0.1, 0.3, 0.6],
            [0.1, 0.6, 0.3],
            [0.5, 0.1, 0.4],
            [0.1, 0.8, 0.1],
            [0.2, 0.5, 0.3],
            [0.0, 0.1, 0.9],
            [0.9, 0.05, 0.05],
        ],
        ["bkl", "mel", "nv"],
    )


def drawn_images(count: int = 300, seed: int = 0, skill: float = 2, digits: int | None = None) -> pd.DataFrame:
    """Return images of five classes, some rare, of two thirds as many lesions, with predictions that are often right.

    Args:
        count: of images.
        seed: of everything.
        skill: how much higher the logit of the true class is, in standard deviations of the noise.
        digits: probabilities are rounded to so many, for the sake of ties.
    """
    random = np.random.default_rng(seed)
    classes = ["akiec", "bcc", "bkl", "mel", "nv"]
    lesion = random.integers(2 * count // 3, size=count)
    target = random.choice(5, 2 * count // 3, p=SHARES)[lesion]
    logits = random.normal(size=(count, 5)) + skill * np.eye(5)[target]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if digits is not None:
        probabilities = probabilities.round(digits)
    labels = [classes[number] for number in target]
    return make_predictions(labels, probabilities, classes, lesions=[f"lesion_{number}" for number in lesion])


def predicted_again(table: pd.DataFrame, seed: int, skill: float = 2) -> pd.DataFrame:
    """Return the images of a table with other predictions, drawn as those of `drawn_images`, by another run as it were.

    They depend on the seed, the skill and the labels.
    """
    classes = class_names(table)
    logits = np.random.default_rng(seed).normal(size=(len(table), len(classes)))
    probabilities = softmax(logits + skill * np.eye(len(classes))[targets_of(table)], axis=1).astype(np.float32)
    predicted = np.array(classes)[probabilities.argmax(axis=1)]
    return with_probabilities(table, probabilities).assign(predicted=predicted)


def drawn_training(seed: int, dropout: float = 0.5, split: int = 1) -> list[pd.DataFrame]:
    """Return predictions of validation and test images, which the split chooses; 0.5 is the best dropout."""
    parts = []
    for number, part in enumerate(("validation", "test")):
        images = drawn_images(300, seed=2 * split + number)
        table = predicted_again(images, seed=2 * seed + number, skill=2.5 - 8 * abs(dropout - 0.5))
        names = {column: f"{part} {split} " + images[column] for column in ("image_id", "lesion_id")}
        parts.append(table.assign(part=part, **names, group_id="lesion " + names["lesion_id"]))
    return parts


def worsened(table: pd.DataFrame, images: int) -> pd.DataFrame:
    """Return a table of `drawn_images` with so many images, of those that are right and not nv, taken for nv."""
    chosen = table.index[(table["label"] == table["predicted"]) & (table["label"] != "nv")][:images]
    worse = table.copy()
    worse.loc[chosen, worse.filter(regex="^p_").columns] = [0.0, 0.0, 0.0, 0.0, 1.0]
    worse.loc[chosen, "predicted"] = "nv"
    return worse


def make_run(
    name: str,
    table: pd.DataFrame,
    validation: pd.DataFrame | None = None,
    prior: list[float] | None = None,
    exponent: float = 0,
    **params: Any,
) -> Run:
    """Return a run tested on the images of a table, whose contents are as different as their ids.

    Without `validation` it is validated on the same images. With a prior it decides by that and the exponent.
    """
    parts = [
        images.assign(sha256=images["image_id"]) for images in (table if validation is None else validation, table)
    ]
    if prior is not None:
        parts = [decide(images, prior, exponent) for images in parts]
        params["evaluate.prior_exponent"] = exponent
    return Run(name, params, PREDICTIONS_TTA, prior, *parts)
