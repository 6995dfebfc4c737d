"""What cached views gain: balanced accuracy against `augmentation.views`, on real images with real weights.

IMAGES is a folder of images with their label table, WEIGHTS a file of MobileNetV2's ImageNet weights. `make bench` does
not run this, because its result is the choice of a default and not a speed. For each seed a split is drawn, and a head
is trained with each number of views and scored on the validation and the test part.

Two more rows augment anew in every epoch, as a notebook does: there are as many views as epochs at most, and each view
serves one epoch. One of them has our head and its settings, the other the original study's: features that are not
normalized, dropout 0.3, patience 5, and early stopping on the images alone.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.processes import stage_command
from benchmarks.results import print_tables, record
from benchmarks.timing import Row
from dermoscopy.data.split import assign_parts
from dermoscopy.data.tables import read_table
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.labelled_images import label_images, prediction_table
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Params, Train, load_params
from dermoscopy.runtime.paths import FEATURES, MANIFEST, PARAMS
from dermoscopy.runtime.workspace import environment, make_workspace
from dermoscopy.scoring.metrics import point_metrics

COUNTS = (0, 1, 2, 4, 8, 16)
EPOCHS = 60  # at most, in all rows; as many views are computed
FRESH, ORIGINAL = "4, new in each epoch", "original study's recipe"
SEEDS = range(1, 11)


class LimitedReader(FeatureReader):
    """Features of which only the first views are seen; training may see a new one in each epoch instead."""

    def __init__(self, folder: Path, views: int, fresh_for: int = 0) -> None:
        """Open a folder; `fresh_for` is the number of training images, or 0."""
        super().__init__(folder)
        self.info = self.info.model_copy(update={"keys": self.info.keys[: views + 1]})
        self._fresh_for = fresh_for
        self._seen = 0

    def random_views(self, rows: NDArray[np.intp], views: NDArray[np.intp]) -> NDArray[np.float32]:
        if not self._fresh_for:
            return super().random_views(rows, views)
        epoch = self._seen // self._fresh_for
        self._seen += len(rows)
        return self.view(1 + epoch, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("images", type=Path, metavar="IMAGES")
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    arguments = parser.parse_args()
    start = time.monotonic()
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": "directory", "directory": str(arguments.images.resolve())},
        "backbone": {"name": "MobileNetV2", "weights": str(arguments.weights.resolve())},
        "augmentation": {"views": EPOCHS},
        "train": {"epochs": EPOCHS},
    }
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        make_workspace(project, changes)
        for stage in ("download", "manifest", "backbone", "features"):
            if subprocess.run(stage_command(stage), cwd=project, env=environment(), check=False).returncode:
                raise PipelineError(f"the stage {stage} did not finish: see its message above")
        runs = train_and_score(project, load_params(project / PARAMS))
    tables = {
        f"Balanced accuracy against views, mean over {len(SEEDS)} seeds": describe_runs(runs, "balanced_accuracy"),
        f"Accuracy against views, mean over {len(SEEDS)} seeds": describe_runs(runs, "accuracy"),
    }
    print_tables(tables)
    record("views", tables, time.monotonic() - start)


def train_and_score(project: Path, params: Params) -> pd.DataFrame:
    """Return the metrics of each seed, number of views, part and way of scoring, a row each."""
    manifest = read_table(project / MANIFEST, "image_id", "label", "lesion_id", "sha256")
    images, classes = label_images(manifest[["image_id", "label"]], FeatureReader(project / FEATURES))
    runs = []
    for seed in tqdm(SEEDS, "seeds", file=sys.stderr):
        images["part"] = assign_parts(manifest, params.split.model_copy(update={"seed": seed}))
        training = images[images["part"] == "train"]
        for views in (*COUNTS, FRESH, ORIGINAL):
            train = params.train.model_copy(update={"seed": seed})
            if isinstance(views, int):
                reader = LimitedReader(project / FEATURES, views)
            else:
                reader = LimitedReader(project / FEATURES, 4 if views == FRESH else 0, fresh_for=len(training))
            if views == ORIGINAL:
                train = train.model_copy(update={"dropout": 0.3, "patience": 5})
            head = train_one(reader, images, len(classes), train, normalize=views != ORIGINAL)
            for part in ("validation", "test"):
                for how, table in predict_both(head, reader, images[images["part"] == part], classes).items():
                    values = point_metrics(table)
                    runs.append(
                        {
                            "seed": seed,
                            "views": str(views),
                            "part": part,
                            "scored": how,
                            "accuracy": values.accuracy,
                            "balanced_accuracy": values.balanced_accuracy,
                        }
                    )
    return pd.DataFrame(runs)


def train_one(reader: FeatureReader, images: pd.DataFrame, classes: int, train: Train, normalize: bool) -> Any:
    """Return a trained head, with its features normalized or as they are."""
    start_keras(train.seed)
    from dermoscopy.model.fast_fit import fit
    from dermoscopy.model.head import build_head
    from dermoscopy.model.training import train_head

    training, validation = (images[images["part"] == part] for part in ("train", "validation"))
    if normalize:
        return train_head(reader, training, validation, classes, train)[0]
    head = build_head(np.zeros(reader.info.dim), np.ones(reader.info.dim), train.dropout, classes)
    fit(head, reader, training, validation, train)
    return head


def predict_both(head: Any, reader: FeatureReader, images: pd.DataFrame, classes: list[str]) -> dict[str, pd.DataFrame]:
    """Return two prediction tables: of the images alone, and averaged over their views."""
    from dermoscopy.model.training import predict_views

    probabilities = predict_views(head, reader, images["row"].to_numpy())
    return {
        "image alone": prediction_table(images, classes, probabilities[:, 0]),
        "views averaged": prediction_table(images, classes, probabilities.mean(axis=1)),
    }


def describe_runs(runs: pd.DataFrame, metric: str) -> list[Row]:
    """Return a row for each number of views: the mean over seeds, and its difference from new views in each epoch.

    Both sides of the difference have the same splits, so its standard error is far below that of the mean.
    """
    rows: list[Row] = []
    table = runs.pivot_table(index="seed", columns=["views", "part", "scored"], values=metric)
    for views in [str(views) for views in (*COUNTS, FRESH, ORIGINAL)]:
        row: Row = {"views": views}
        for part in ("validation", "test"):
            for how in ("image alone", "views averaged"):
                row[f"{part}, {how}"] = float(np.mean(table[views, part, how]))
        new = table[FRESH, "validation", "views averaged"].to_numpy()
        difference = table[views, "validation", "views averaged"].to_numpy() - new
        row["validation, from new views"] = float(difference.mean())
        row["its standard error"] = float(difference.std(ddof=1) / len(difference) ** 0.5)
        rows.append(row)
    return rows


if __name__ == "__main__":
    run_command(main)
