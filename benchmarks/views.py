"""What cached views buy: balanced accuracy against `augmentation.views`, on real images with real weights.

IMAGES is a folder of images with their label table, WEIGHTS a file of MobileNetV2's ImageNet weights. This is no part
of `make bench`: its result is a choice of the default, not a speed. For each seed a split is drawn, a head is trained
with each number of views, and scored on the validation and the test part.

Two more rows augment in each epoch anew, as a notebook does: as many views as there may be epochs, each for one epoch.
One has our head and its settings, the other the original study's: features as they are, dropout 0.3, patience 5, and
early stopping on the images alone.
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

from benchmarks.__main__ import print_tables, record
from benchmarks.timing import Row
from dermoscopy.data.split import assign_parts
from dermoscopy.data.tables import MANIFEST, read_table
from dermoscopy.features.store import FEATURES, FeatureReader
from dermoscopy.runtime.errors import PipelineError, run
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.workspace import environment, make_workspace
from dermoscopy.scoring.metrics import point_metrics

VIEWS = (0, 1, 2, 4, 8, 16)
EPOCHS = 60  # at most, in all rows; as many views are computed
FRESH, ORIGINAL = "4, new in each epoch", "original study's recipe"
SEEDS = range(1, 11)


class LimitedReader(FeatureReader):
    """Features of which only the first views are seen, or in each epoch of training the next one."""

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
            command = [sys.executable, "-m", f"stages.{stage}"]
            if subprocess.run(command, cwd=project, env=environment(), check=False).returncode:
                raise PipelineError(f"the stage {stage} did not finish: see its message above")
        runs = train_and_score(project, load_params(project / "params.yaml"))
    tables = {
        f"Balanced accuracy against views, mean over {len(SEEDS)} seeds": summarize(runs, "balanced_accuracy"),
        f"Accuracy against views, mean over {len(SEEDS)} seeds": summarize(runs, "accuracy"),
    }
    print_tables(tables)
    record("views", tables, time.monotonic() - start)


def train_and_score(project: Path, params: Params) -> pd.DataFrame:
    """Return the metrics of each seed, number of views, part and way of scoring, a row each."""
    from dermoscopy.runtime.keras_start import start_keras

    manifest = read_table(project / MANIFEST, "image_id", "label", "lesion_id", "sha256")
    classes = sorted(manifest["label"].unique())
    images = manifest[["image_id", "label"]].assign(
        row=range(len(manifest)), target=pd.Categorical(manifest["label"], categories=classes).codes
    )
    runs = []
    for seed in tqdm(SEEDS, "seeds", file=sys.stderr):
        part = assign_parts(manifest, params.split.model_copy(update={"seed": seed}))
        training, validation = images[part == "train"], images[part == "validation"]
        for views in (*VIEWS, FRESH, ORIGINAL):
            keras = start_keras(seed)
            train = params.train.model_copy(update={"seed": seed})
            if isinstance(views, int):
                reader = LimitedReader(project / FEATURES, views)
            else:
                reader = LimitedReader(project / FEATURES, 4 if views == FRESH else 0, fresh_for=len(training))
            if views == ORIGINAL:
                train = train.model_copy(update={"dropout": 0.3, "patience": 5})
            head = train_one(keras, reader, training, validation, len(classes), train, normalize=views != ORIGINAL)
            for name in ("validation", "test"):
                scored = images[part == name].assign(part=name)
                for how, table in predictions(keras, head, reader, scored, classes).items():
                    values = point_metrics(table)
                    runs.append(
                        {"seed": seed, "views": str(views), "part": name, "scored": how}
                        | {metric: values[metric] for metric in ("accuracy", "balanced_accuracy")}
                    )
    return pd.DataFrame(runs)


def train_one(
    keras: Any,
    reader: FeatureReader,
    training: pd.DataFrame,
    validation: pd.DataFrame,
    classes: int,
    train: Any,
    normalize: bool,
) -> Any:
    """Return a trained head, with its features normalized or as they are."""
    from dermoscopy.model.head import build_head
    from dermoscopy.model.training import fit, train_head

    if normalize:
        return train_head(keras, reader, training, validation, classes, train)[0]
    head = build_head(np.zeros(reader.info.dim), np.ones(reader.info.dim), train.dropout, classes)
    fit(keras, head, reader, training, validation, train)
    return head


def predictions(
    keras: Any, head: Any, reader: FeatureReader, images: pd.DataFrame, classes: list[str]
) -> dict[str, pd.DataFrame]:
    """Return two prediction tables: from the image alone, and averaged over its views."""
    from dermoscopy.model.training import predict, tabulate

    probabilities = predict(keras, head, reader, images["row"].to_numpy())
    return {
        "image alone": tabulate(images, classes, probabilities[:, 0]),
        "views averaged": tabulate(images, classes, probabilities.mean(axis=1)),
    }


def summarize(runs: pd.DataFrame, metric: str) -> list[Row]:
    """Return a row a number of views: the mean over seeds, and how far it is from that of new views in each epoch.

    That difference is of the same seeds' splits, so its standard error is far below that of the mean.
    """
    rows: list[Row] = []
    table = runs.pivot_table(index="seed", columns=["views", "part", "scored"], values=metric)
    for views in [str(views) for views in (*VIEWS, FRESH, ORIGINAL)]:
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
    run(main)
