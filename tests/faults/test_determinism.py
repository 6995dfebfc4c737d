"""The same bytes whatever the chunk size, the number of threads, the order of rows and of files on the disk."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from dermoscopy.features import extraction
from dermoscopy.runtime.paths import CHUNKS, FEATURES
from stages import features, manifest
from tests.support.finished_run import run_stages
from tests.support.params_file import write_params
from tests.support.stage_project import contents, make_project

IMAGES = 70  # more than the largest chunk
RESULTS = ["data/manifest.csv", "data/rejected.csv", "metrics/data.json", "plots/class_distribution.csv"]


def results() -> dict[str, bytes]:
    return contents(FEATURES) | {name: Path(name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def drawn(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    make_project(folder, backbones["first"], IMAGES, views=2)
    return folder


def run_in(folder: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Run manifest and features from scratch in a folder, and return what they wrote."""
    monkeypatch.chdir(folder)
    write_params(folder, {"augmentation": {"views": 2}, "features": {"engine": engine}})
    shutil.rmtree(CHUNKS, ignore_errors=True)
    run_stages(folder, [manifest, features])
    return results()


@pytest.fixture(scope="module", params=["openvino", pytest.param("tensorflow", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def expected(drawn: Path, engine: str) -> dict[str, bytes]:
    """The results of an engine with the defaults."""
    with pytest.MonkeyPatch.context() as patch:
        return run_in(drawn, engine, patch)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunk_size_changes_nothing(
    drawn: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, chunk: int, engine: str
) -> None:
    monkeypatch.setattr(extraction, "CHUNK", chunk)
    assert run_in(drawn, engine, monkeypatch) == expected
    assert len(list(CHUNKS.rglob("*.chunk"))) == 3 * -(-IMAGES // chunk)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_number_of_decoding_threads_changes_nothing(
    drawn: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, threads: int, engine: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: threads)
    assert run_in(drawn, engine, monkeypatch) == expected


def test_the_order_of_label_rows_and_of_files_on_the_disk_changes_nothing(
    drawn: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    shutil.copytree(drawn / "models", tmp_path / "models")
    images = tmp_path / "data/raw/images"
    images.mkdir(parents=True)
    for path in sorted((drawn / "data/raw/images").iterdir(), reverse=True):
        shutil.copy(path, images)
    table = pd.read_csv(drawn / "data/raw/labels.csv")
    table.iloc[::-1].to_csv(tmp_path / "data/raw/labels.csv", index=False)
    assert run_in(tmp_path, engine, monkeypatch) == expected
