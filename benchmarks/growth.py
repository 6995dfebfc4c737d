"""How time and memory grow with the number of images.

The features stage is run with up to 3,200 images, the stages that read only tables and features with 1,000,000. Every
stage is a process, on made-up input. The slowest, manifest, has a benchmark of its own, growth_of_manifest.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.made_up import learnable_features, made_up_info, write_images, write_made_up_features
from benchmarks.processes import Cost, measure_stage
from benchmarks.timing import Row, summarize
from dermoscopy.data.sources.sample import plan
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import CHUNKS, FEATURES, MANIFEST, PARAMS, RAW
from dermoscopy.runtime.workspace import make_workspace

COUNTS = (200, 400, 800, 1_600, 3_200)
START = 2  # images: so few that what is measured is the start of the stage
ROUNDS = 3
ROWS = 1_000_000
DIMS = (64, 1_536)


def measure() -> dict[str, list[Row]]:
    with TemporaryDirectory() as folder:
        costs = features_costs(Path(folder), [START, *COUNTS])
    with TemporaryDirectory() as folder:
        tables = table_costs(Path(folder), ROWS, DIMS)
    return {"The features stage": describe_features(costs), f"{ROWS:,} images": tables}


def features_costs(folder: Path, counts: list[int]) -> dict[int, list[Cost]]:
    """Return what each of ROUNDS runs of the features stage cost, by the number of images, one view each."""
    changes: dict[str, dict[str, Any]] = {
        "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 96},
        "augmentation": {"views": 0},
        "features": {"engine": "openvino"},
    }
    make_workspace(folder, changes)
    labels = plan(max(counts), seed=1)
    write_images(folder / RAW, labels, width=600, height=450)
    measure_stage(folder, "backbone")
    measure_stage(folder, "manifest")
    manifest = pd.read_csv(folder / MANIFEST)
    costs: dict[int, list[Cost]] = {count: [] for count in counts}
    for _ in range(ROUNDS):
        for count in counts:
            manifest.head(count).to_csv(folder / MANIFEST, index=False)
            shutil.rmtree(folder / CHUNKS, ignore_errors=True)
            costs[count].append(measure_stage(folder, "features"))
    return costs


def describe_features(costs: Mapping[int, list[Cost]]) -> list[Row]:
    """Return a row for each number of images, and one for the exponent of growth.

    The first number of images stands for the start of the stage, which is not part of the work. The exponent is of
    processor seconds, because other programs disturb them less than seconds on the clock.
    """
    counts = list(costs)
    medians = {count: float(np.median([cost.processor for cost in costs[count]])) for count in counts}
    work = [medians[count] - medians[counts[0]] for count in counts[1:]]
    rows: list[Row] = [
        {
            "images": count,
            **summarize([cost.seconds for cost in costs[count]], "s"),
            "processor, s": medians[count],
            "work, s": medians[count] - medians[counts[0]],
            "peak MB": max(cost.megabytes for cost in costs[count]),
        }
        for count in counts
    ]
    return [*rows, {"images": "exponent", "work, s": exponent(counts[1:], work)}]


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return b of seconds = a * sizes**b: the slope of the least-squares line through their logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def table_costs(folder: Path, rows: int, dims: tuple[int, ...]) -> list[Row]:
    """Return what split, train (two epochs) and evaluate cost for this many images, one view each."""
    make_workspace(folder, {"augmentation": {"views": 0}, "train": {"epochs": 2}})
    write_manifest(folder, rows)
    costs = {("split", 0): measure_stage(folder, "split")}
    for dim in dims:
        write_one_view(folder, dim)
        costs["train", dim] = measure_stage(folder, "train")
        shutil.rmtree(folder / FEATURES)
    costs["evaluate", 0] = measure_stage(folder, "evaluate")
    return [
        {"stage": stage, "numbers an image": dim or None, "s": cost.seconds, "peak MB": cost.megabytes}
        for (stage, dim), cost in costs.items()
    ]


def write_manifest(folder: Path, rows: int) -> None:
    """Write a manifest of images that do not exist."""
    table = plan(rows, seed=1).rename(columns={"dx": "label"}).sort_values("image_id")
    table["path"] = "data/raw/images/" + table["image_id"] + ".jpg"
    table["width"], table["height"] = 600, 450
    table["sha256"] = [f"{number:064x}" for number in range(rows)]
    first = ["image_id", "path", "label", "lesion_id", "width", "height", "sha256"]
    table[[*first, "dx_type", "age", "sex", "localization"]].to_csv(folder / MANIFEST, index=False)


def write_one_view(folder: Path, dim: int) -> None:
    """Write made-up features, one view, of the images in the manifest of a project."""
    manifest = pd.read_csv(folder / MANIFEST, usecols=["image_id", "label", "sha256"])
    info = made_up_info(load_params(folder / PARAMS).augmentation, dim, len(manifest), views=1)
    write_made_up_features(folder / FEATURES, info, manifest, learnable_features(manifest["label"], dim, signal=0.15))
