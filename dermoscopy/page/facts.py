"""Facts of the page about data and results beside the metrics: counts, estimates with their intervals, identities."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dermoscopy.data.tables import PARTS
from dermoscopy.scoring.metrics import ClassMetrics, Metrics, Screening

# no class has a space in its name
IN_ALL = "in all"


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval; where there is no value, `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str


def estimate(values: Metrics | ClassMetrics | Screening | None, name: str) -> Estimate:
    """Return a metric and its interval from what is known of a part or a class."""
    value = getattr(values, name, None)
    low, high = getattr(values, f"{name}_ci", None) or (None, None)
    reason = ""
    if values is None or name not in values.model_fields_set:
        reason = "not computed"
    elif value is None:
        reason = "too few images" if getattr(values, "support", 2) < 2 else "undefined here"
    return Estimate(value, low, high, reason)


def count_parts(manifest: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Return how many images and lesions each class has in each part and in all.

    Index `label` with a last row IN_ALL; columns (part, images | lesions), then (all, ...).
    """
    images = manifest[["image_id", "label", "lesion_id"]].merge(split, on="image_id")
    both = pd.concat([images, images.assign(label=IN_ALL)])
    both = pd.concat([both, both.assign(part=IN_ALL)])
    counts = both.pivot_table(["image_id", "lesion_id"], "label", "part", aggfunc="nunique", fill_value=0)
    table = counts.rename(columns={"image_id": "images", "lesion_id": "lesions"}).swaplevel(axis="columns")
    parts = [part for part in PARTS if (images["part"] == part).any()]
    labels = [*sorted(set(images["label"])), IN_ALL]
    return table.loc[labels, [(part, unit) for part in [*parts, IN_ALL] for unit in ("images", "lesions")]]


def data_version(manifest: pd.DataFrame) -> str:
    """Return a SHA-256 (hexadecimal) over the id, class and content hash of every image."""
    digest = hashlib.sha256()
    for row in manifest[["image_id", "label", "sha256"]].sort_values("image_id").itertuples(index=False):
        digest.update("\0".join(row).encode() + b"\n")
    return digest.hexdigest()


def run_identity(version: str, backbone: str, params: dict[str, Any], metrics: dict[str, Metrics]) -> str:
    """Return a SHA-256 (hexadecimal) over what went into a run and what came out, the same for the same run.

    It is found again in the history of Git, where the model card holds it; the commit itself is not known to a stage.
    """
    numbers = {part: values.model_dump(mode="json", exclude_unset=True) for part, values in metrics.items()}
    return hashlib.sha256(json.dumps([version, backbone, params, numbers], sort_keys=True).encode()).hexdigest()
