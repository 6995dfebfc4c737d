"""The main job on real images: HAM10000 from a local Kaggle server to the report, once, by real DVC.

The images have 224 x 224 pixels; all else is as it is for a user: the archive's layout, the client, the labels.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pandas as pd
import pytest

from benchmarks.kaggle_run import KaggleRun, describe_disk, describe_metrics, describe_time, write_real_archive
from benchmarks.kaggle_server import KaggleServer
from benchmarks.processes import Line
from benchmarks.workspace import executed
from dermoscopy.data.sources.kaggle import DATASET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]  # of it all, it takes some five minutes

IMAGES, LESIONS = 10_015, 7_470


class Finished(NamedTuple):
    run: KaggleRun
    folder: Path
    lines: list[Line]


@pytest.fixture(scope="module")
def finished(shared: Path) -> Iterator[Finished]:
    """A finished run, whose server still runs; it takes a gigabyte, so that nothing is left of it."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        with KaggleServer(write_real_archive(folder / "archive.zip"), DATASET) as server:
            run = KaggleRun(folder, server)
            yield Finished(run, run.workspace.folder, run.repro())


def test_every_image_arrives_once_with_the_labels_as_they_are(finished: Finished, ham10000_metadata: Path) -> None:
    table = pd.read_csv(ham10000_metadata)
    files = sorted(path.name for path in (finished.folder / "data/raw/images").iterdir())
    assert len(files) == IMAGES
    assert files == sorted(table["image_id"] + ".jpg")
    assert (finished.folder / "data/raw/labels.csv").read_bytes() == ham10000_metadata.read_bytes()
    assert len(finished.run.server.transfers()) == 1


def test_the_manifest_has_every_image_and_lesion(finished: Finished) -> None:
    manifest = pd.read_csv(finished.folder / "data/manifest.csv")
    assert len(manifest) == manifest["image_id"].nunique() == IMAGES
    assert manifest["lesion_id"].nunique() == LESIONS


def test_no_lesion_of_the_real_data_is_in_two_parts(finished: Finished) -> None:
    manifest, split = (pd.read_csv(finished.folder / f"data/{name}.csv") for name in ("manifest", "split"))
    parts = manifest.merge(split, on="image_id", validate="1:1").groupby("lesion_id")["part"].nunique()
    assert len(parts) == LESIONS
    assert (parts == 1).all()


def test_the_model_has_learned_what_a_frozen_mobilenet_can(finished: Finished) -> None:
    test = finished.run.workspace.metrics()["test"]
    assert test["support"] == pytest.approx(0.15 * IMAGES, rel=0.03)
    assert 0.5 < test["balanced_accuracy"] < 0.8  # always answering nv gets 1/7
    assert 0.85 < test["macro_auc"] < 0.98


def test_a_second_run_asks_the_server_for_nothing_and_runs_nothing(finished: Finished) -> None:
    asked = len(finished.run.server.requests)
    lines = finished.run.repro()
    assert executed("\n".join(line for _, line in lines)) == []
    assert len(finished.run.server.requests) == asked


def test_the_benchmark_says_what_the_run_took(finished: Finished) -> None:
    seconds = {row["part"]: row["s"] for row in describe_time(finished.lines)}
    stages = ["listing", "download", "manifest", "split", "backbone"]
    assert list(seconds)[:5] == stages
    assert min(seconds.values()) > 0
    assert seconds.pop("in all") == pytest.approx(sum(seconds.values()))
    megabytes = [row["MB"] for row in describe_disk(finished.run)]
    assert min(megabytes) > 50
    assert max(megabytes) < 3_000
    assert [row["images"] for row in describe_metrics(finished.run.workspace)] == [
        finished.run.workspace.metrics()[part]["support"] for part in ("validation", "test")
    ]
