"""How time and memory grow of what reads tables and features, beside the stages that growth measures.

Each is a process, on made-up input: images that do not exist, a view of each, 64 numbers, and a head that uses clinical
data. tools.predict and tools.external are run on image files of 32 x 32 pixels, because there is nothing to predict
without one; most of their time is the backbone's. What stage finetune reads is measured without the training.
Seconds are of the processor, all processes together. MB are the peak of the largest process: crossvalidate, repeat and
compare --seeds have as many of it as trainings, but one more than there are cores at most.
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.growth import exponent, write_manifest, write_one_view
from benchmarks.made_up import write_images
from benchmarks.processes import Cost, measure_command, measure_stage
from benchmarks.timing import Row
from benchmarks.workspace import Workspace
from dermoscopy.data.manifest import CheckedData, summarize
from dermoscopy.data.sources.sample import plan
from dermoscopy.data.tables import read_table, write_json
from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import (
    BACKBONE,
    FEATURES,
    HEAD_INFO,
    MANIFEST,
    PARAMS,
    PREDICTIONS_TTA,
    RAW,
    STATISTICS,
)
from dermoscopy.runtime.workspace import make_workspace, write_params

START = 300  # images: so few that what is measured is the start of the process
COUNTS = (20_000, 60_000, 200_000)
COUNTS_OF_FILES = (2_000, 6_000, 20_000)
PROJECTED = 1_000_000
DIM = 64

Changes = dict[str, dict[str, Any]]
CHANGES: Changes = {
    "augmentation": {"views": 0},
    "train": {"epochs": 2, "clinical": ["age", "sex", "localization"]},
    "report": {"gallery": 0},
}
SMALL_BACKBONE: Changes = {
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": 32},
    "features": {"engine": "openvino"},
}

# What finetune does before it learns and to learn: it finds what the frozen layers gave, computes what is missing (here
# it is made up), and reads it in random order.
READ_CHUNKS = f"""
from pathlib import Path
import numpy as np
from dermoscopy.data.tables import read_table
from dermoscopy.features.chunks import CHUNK, ViewChunks
from dermoscopy.features.recipe import image_keys
from dermoscopy.runtime.paths import ACTIVATIONS, MANIFEST, SPLIT

split = read_table(SPLIT, "image_id", "part")
images = read_table(MANIFEST, "image_id", "sha256").merge(split, on="image_id", validate="1:1")
chunks = ViewChunks(ACTIVATIONS, "0" * 64, image_keys(images), ({DIM},), np.float16)
missing = [number for number in range(len(images)) if number not in chunks]
for start in range(0, len(missing), CHUNK):
    numbers = missing[start : start + CHUNK]
    chunks.add(numbers, np.ones((len(numbers), {DIM}), np.float32))
for number in np.random.default_rng(1).permutation(len(images)).tolist():
    chunks[number]
"""

COMMANDS = {
    "stage evaluate": ["-m", "stages.evaluate"],
    "stage report, no gallery": ["-m", "stages.report"],
    "crossvalidate, 3 folds": ["-m", "tools.crossvalidate", "--folds", "3"],
    "repeat, 2 seeds": ["-m", "tools.repeat", "-n", "2"],
    "compare": ["-m", "tools.compare", "run-1", "run-2"],
    "compare, 2 seeds": ["-m", "tools.compare", "run-1", "run-2", "--seeds", "2"],
    "ensemble": ["-m", "tools.ensemble", "run-1", "run-2"],
    "finetune's chunks, written and read": ["-c", READ_CHUNKS],
    "finetune's chunks, found and read": ["-c", READ_CHUNKS],
}
COMMANDS_ON_FILES = {
    "predict": ["-m", "tools.predict", "new/images", "--csv", "new.csv", "--clinical", "new/labels.csv"],
    "external": ["-m", "tools.external", "new"],
}


def measure() -> dict[str, list[Row]]:
    tables = {count: table_costs(count) for count in (START, *COUNTS)}
    files = file_costs((START, *COUNTS_OF_FILES))
    return {"Tools and stages, 64 numbers an image": describe(tables), "Tools on image files": describe(files)}


def table_costs(images: int) -> dict[str, Cost]:
    """Return what each of COMMANDS costs, and stage train, in a project of two runs with this many images."""
    with TemporaryDirectory() as temporary:
        workspace = Workspace(Path(temporary) / "project", Path(temporary) / "cache", CHANGES)
        project = workspace.folder
        write_manifest(project, images)
        write_one_view(project, DIM)
        write_backbone_info(project)
        manifest = read_table(project / MANIFEST)
        nothing = CheckedData(manifest, pd.DataFrame(), [], [], [], None)
        write_json(summarize(nothing), project / STATISTICS)
        measure_stage(project, "split")
        (project / "dvc.yaml").unlink()  # what its stages write is added as data instead
        for seed in (1, 2):
            write_params(project, CHANGES | {"train": CHANGES["train"] | {"seed": seed}})
            train = measure_stage(project, "train")
            workspace.dvc("add", *map(str, (MANIFEST, FEATURES, BACKBONE, HEAD_INFO, PREDICTIONS_TTA)))
            workspace.run("git", "add", "--all")
            workspace.run("git", "commit", "--quiet", "--message", "run")
            workspace.run("git", "tag", f"run-{seed}")
        return {"stage train": train, **costs_of(COMMANDS, project)}


def file_costs(counts: tuple[int, ...]) -> dict[int, dict[str, Cost]]:
    """Return what each of COMMANDS_ON_FILES costs, by the number of images, with a head that is trained on START."""
    costs = {}
    with TemporaryDirectory() as temporary:
        project = Path(temporary)
        make_workspace(project, CHANGES | SMALL_BACKBONE)
        write_images(project / RAW, plan(START, seed=1), width=32, height=32)
        for stage in ("manifest", "split", "backbone", "features", "train"):
            measure_stage(project, stage)
        for count in counts:
            labels = plan(count, seed=2)
            labels[["image_id", "lesion_id"]] = "new" + labels[["image_id", "lesion_id"]]  # none that the head knows
            write_images(project / "new", labels, width=40, height=32)
            costs[count] = costs_of(COMMANDS_ON_FILES, project)
            shutil.rmtree(project / "new")
    return costs


def costs_of(commands: Mapping[str, list[str]], project: Path) -> dict[str, Cost]:
    """Return what each command costs, the arguments of Python, run in a project one after the other."""
    return {name: measure_command([sys.executable, *command], project) for name, command in commands.items()}


def write_backbone_info(project: Path) -> None:
    """Write what says that a backbone made the features of `write_one_view`; its other files do not exist."""
    params = load_params(project / PARAMS).backbone
    info = BackboneInfo(name=params.name, image_size=params.image_size, dim=DIM, fingerprint="0" * 64, files={})
    (project / BACKBONE).mkdir(parents=True)
    (project / BACKBONE / "backbone.json").write_text(info.model_dump_json(), encoding="utf-8")


def describe(costs: Mapping[int, Mapping[str, Cost]]) -> list[Row]:
    """Return a row for each thing that was measured.

    It has seconds and MB at each size, the exponent of growth, and a projection. The smallest size stands for the start
    of the process, which is not part of the work. The projection goes on from the last two sizes: work as the power of
    the number of images that joins them, MB as the line.
    """
    start, *counts = costs
    rows: list[Row] = []
    for name, of_start in costs[start].items():
        seconds, megabytes = ([getattr(costs[count][name], field) for count in counts] for field in Cost._fields[1:])
        work = [value - of_start.processor for value in seconds]
        growth = (PROJECTED / counts[-1]) ** exponent(counts[-2:], work[-2:])
        slope = (megabytes[-1] - megabytes[-2]) / (counts[-1] - counts[-2])
        rows.append(
            {
                "what": name,
                "start: s": of_start.processor,
                **{f"{count:,}: s": value for count, value in zip(counts, seconds, strict=True)},
                **{f"{count:,}: MB": value for count, value in zip(counts, megabytes, strict=True)},
                "exponent": exponent(counts, work),
                f"{PROJECTED:,}: s": of_start.processor + work[-1] * growth,
                f"{PROJECTED:,}: MB": megabytes[-1] + slope * (PROJECTED - counts[-1]),
            }
        )
    return rows
