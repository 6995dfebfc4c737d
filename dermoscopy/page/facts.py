"""Facts of the page about data and results beside the metrics: counts, estimates with their intervals, identities."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dermoscopy.data.groups import count_known
from dermoscopy.data.tables import PARTS
from dermoscopy.runtime.errors import first_few
from dermoscopy.scoring.metrics import ClassMetrics, Metrics, Screening


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


@dataclass(frozen=True)
class Count:
    """How many images there are, and of how many lesions and patients; None where not one is known.

    `strays` are the images whose lesion is not known, although others are.
    """

    images: int
    lesions: int | None
    patients: int | None
    strays: int

    def __str__(self) -> str:
        numbers = {"image": self.images, "lesion": self.lesions, "patient": self.patients}
        known = [f"{number} {unit}{'s' * (number != 1)}" for unit, number in numbers.items() if number is not None]
        strays = f" ({self.strays} of unknown lesion)" if self.strays else ""
        return " of ".join(known) + (", lesions unknown" if self.lesions is None else strays)


def count_images(images: pd.DataFrame) -> Count:
    """Return how many images of a manifest there are, and of how many lesions and patients."""
    lesions, patients = (count_known(images[name]) if name in images else None for name in ("lesion_id", "patient_id"))
    return Count(len(images), lesions, patients, int((images["lesion_id"] == "").sum()) if lesions else 0)


def count_parts(manifest: pd.DataFrame, split: pd.DataFrame) -> dict[str | None, dict[str | None, Count]]:
    """Return the counts of each class and, under None, of all classes: in each part and, under None, in all parts."""
    images = manifest.merge(split, on="image_id")
    parts = [part for part in PARTS if (images["part"] == part).any()]
    classes = sorted(set(images["label"]))
    of_class = {name: images[images["label"] == name] for name in classes} | {None: images}
    return {
        label: {part: count_images(rows[rows["part"] == part] if part else rows) for part in [*parts, None]}
        for label, rows in of_class.items()
    }


def diagnosed_by(manifest: pd.DataFrame) -> str:
    """Return the shares of the images by how their diagnosis was made, largest first, or "" where nothing is known."""
    if "dx_type" not in manifest or (manifest["dx_type"] == "").all():
        return ""
    shares = manifest["dx_type"].replace("", "unknown").value_counts(normalize=True)
    return first_few([f"{name} {share:.0%}".replace("%", " %") for name, share in shares.items()])


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
