"""What clinical data add, by subgroup: the head with them against one trained on the image alone."""

import numpy as np
import pandas as pd

from dermoscopy.data.clinical import VARIABLES
from dermoscopy.data.groups import count_known
from dermoscopy.data.tables import read_table
from dermoscopy.runtime.paths import IMAGE_ONLY
from dermoscopy.scoring.bootstrap import Floats, bootstrap
from dermoscopy.scoring.comparison import interval_of_difference
from dermoscopy.scoring.definitions import count_metrics
from dermoscopy.scoring.metrics import enough_lesions
from dermoscopy.scoring.subgroups import FEW

OVERALL = ("overall", "all images")  # variable and group of the first row
COLUMNS = ["part", "variable", "group", "images", "lesions", "image_only", "with_clinical", "gain", "low", "high"]


def read_image_only(tta: bool) -> pd.DataFrame:
    """Return the predictions from the image alone, of the views that `evaluate.tta` says; empty without clinical data.

    Raises:
        DataError: the table is missing or cannot be read.
    """
    table = read_table(IMAGE_ONLY, "image_id", "predicted", "tta")
    return table[table["tta"] == str(tta).lower()].drop(columns="tta")


def score_gains(predictions: pd.DataFrame, image_only: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return what the clinical data add to the balanced accuracy of one part and of its subgroups, the part first.

    Args:
        predictions: of the head with clinical data; has the variables of `clinical_groups` too.
        image_only: of the head without, of these images and maybe others; if it is empty, so is the result.
        seed: of the bootstrap.

    Returns:
        COLUMNS. Balanced accuracy is that of `score_subgroups`, 0 to 1; `gain` is `with_clinical` minus `image_only`,
        and `low` and `high` are its 95 % interval by the bootstrap, with the same lesions for both heads, NaN where
        there are under FEW images or no spread. `lesions` is missing where none is known.
    """
    rows = []
    if len(image_only):
        alone = image_only.set_index("image_id")["predicted"].loc[predictions["image_id"]]
        images = predictions.assign(image_only=alone.to_numpy())
        groups = [(OVERALL, images)]
        for variable in (name for name in VARIABLES if name in images):
            groups += [((variable, str(group)), of_group) for group, of_group in images.groupby(variable, sort=True)]
        for names, of_group in groups:
            counts = len(of_group), count_known(of_group["lesion_id"])
            rows.append([of_group["part"].iloc[0], *names, *counts, *_gain(of_group, seed)])
    return pd.DataFrame(rows, columns=COLUMNS).astype({"lesions": "Int64"})  # whole numbers, or missing


def _gain(images: pd.DataFrame, seed: int) -> list[float]:
    """Return balanced accuracy without and with clinical data, the difference, and the limits of its interval."""
    heads = [count_metrics(table) for table in (images.assign(predicted=images["image_only"]), images)]

    def both(weights: Floats) -> dict[str, Floats]:
        return {"both": np.stack([head(weights)["balanced_accuracy"] for head in heads], axis=1)}

    without, with_clinical = both(np.ones((1, len(images))))["both"][0].tolist()
    limits = np.nan, np.nan
    if len(images) >= FEW:
        draws = bootstrap(both, images["group_id"], seed)["both"]
        limits = interval_of_difference(draws, enough_lesions(images)["balanced_accuracy"])
    return [without, with_clinical, with_clinical - without, *limits]
