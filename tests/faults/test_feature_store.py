"""Damaged, stale or foreign chunks of features: only what is invalid is computed again, and nothing is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.data.tables import read_table
from dermoscopy.features import computation, extraction
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.recipe import image_keys
from dermoscopy.features.store import FeatureReader, view_file
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import CHUNKS, FEATURES, MANIFEST
from stages import features
from tests.support.finished_run import run_stages
from tests.support.params_file import write_params
from tests.support.stage_project import chunks, contents, enter_copy, make_project, use_backbone

IMAGES, CHUNK = 40, 16  # three chunks a view
IN_FIRST_CHUNK = 16


@pytest.fixture(scope="module")
def finished(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its features: view 0 and view 1, three chunks each."""
    folder = tmp_path_factory.mktemp("finished")
    make_project(folder, backbones["first"], IMAGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "CHUNK", CHUNK)
        run_stages(folder, [features])
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to do harm to, and the current folder."""
    return enter_copy(finished, tmp_path / "project", CHUNK, monkeypatch)


@pytest.fixture
def computed(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """A function that runs the stage and returns how many views of images went through the backbone."""
    counts: list[int] = []

    def load_and_count(*arguments: Any) -> Any:
        engine = load_engine(*arguments)
        compute = engine.compute

        def count(images: Any, number: int) -> NDArray[np.float32]:
            counts.append(number)
            return compute(images, number)

        monkeypatch.setattr(engine, "compute", count)
        return engine

    monkeypatch.setattr(computation, "load_engine", load_and_count)

    def run_and_count() -> int:
        counts.clear()
        run_stages(project, [features])
        FeatureReader()
        return sum(counts)

    return run_and_count


def folder_of(view: int) -> Path:
    """Return the folder of a view's chunks, found by the key in features.json."""
    return CHUNKS / json.loads((FEATURES / "features.json").read_text())["keys"][view][:32]


def first_chunk(view: int) -> Path:
    """Return the chunk that holds image 0 of a view: a whole one, because all are but the last."""
    return max(folder_of(view).glob("*.chunk"), key=lambda path: (path.stat().st_size, path.name))


def test_features_that_are_there_are_not_computed_again(project: Path, computed: Callable[[], int]) -> None:
    before, expected = chunks(project), contents(FEATURES)
    assert computed() == 0
    assert chunks(project) == before
    assert contents(FEATURES) == expected


@pytest.mark.parametrize("other", ["weights", "network"])
def test_another_backbone_computes_all_and_a_return_to_the_first_nothing(
    project: Path, backbones: dict[str, Path], computed: Callable[[], int], other: str
) -> None:
    before, expected = chunks(project), contents(FEATURES)
    use_backbone(project, backbones[other])
    assert computed() == 2 * IMAGES
    assert contents(FEATURES)["view_000.npy"] != expected["view_000.npy"]
    use_backbone(project, backbones["first"])
    assert computed() == 0
    assert contents(FEATURES) == expected
    assert {path: chunks(project)[path] for path in before} == before


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"rotation": 0.1}, IMAGES),
        ({"zoom": 0.5}, IMAGES),
        ({"seed": 9}, IMAGES),
        ({"views": 2}, IMAGES),
        ({"views": 0}, 0),
    ],
    ids=str,
)
def test_other_view_params_compute_the_views_they_change(
    project: Path, computed: Callable[[], int], change: dict[str, Any], count: int
) -> None:
    before, expected = chunks(project), contents(FEATURES)
    write_params(project, {"augmentation": {"views": 1} | change, "features": {"engine": "openvino"}})
    assert load_params().augmentation.views == change.get("views", 1)
    assert computed() == count
    assert contents(FEATURES)["view_000.npy"] == expected["view_000.npy"]
    assert {path: chunks(project)[path] for path in before} == before


def test_another_order_of_images_computes_nothing_and_moves_the_rows(
    project: Path, computed: Callable[[], int]
) -> None:
    expected = np.load(view_file(FEATURES, 1))
    pd.read_csv(MANIFEST).iloc[::-1].to_csv(MANIFEST, index=False)
    assert computed() == 0
    assert np.array_equal(np.load(view_file(FEATURES, 1)), expected[::-1])


@pytest.mark.parametrize("view", [0, 1])
@pytest.mark.parametrize("kept", [0, 31, 32, 5_000, -1])
def test_a_truncated_chunk_is_computed_again_and_no_other(
    project: Path, computed: Callable[[], int], view: int, kept: int
) -> None:
    before, expected = chunks(project), contents(FEATURES)
    damaged = first_chunk(view)
    damaged.write_bytes(damaged.read_bytes()[:kept])
    assert computed() == IN_FIRST_CHUNK
    after = chunks(project)
    assert {path for path in before if after[path] != before[path]} == {project / damaged}
    assert contents(FEATURES) == expected


def test_a_changed_byte_anywhere_in_a_chunk_computes_it_again_and_no_other(
    project: Path, computed: Callable[[], int]
) -> None:
    expected, random = contents(FEATURES), np.random.default_rng(0)
    for _ in range(6):
        before = chunks(project)
        damaged = first_chunk(int(random.integers(2)))
        change_byte(damaged, random)
        assert computed() == IN_FIRST_CHUNK
        assert contents(FEATURES) == expected
        after = chunks(project)
        assert {path for path in before if after[path] != before[path]} == {project / damaged}


def change_byte(path: Path, random: np.random.Generator, stop: int | None = None) -> None:
    """Change one byte, of the first `stop`, to another."""
    content = bytearray(path.read_bytes())
    content[random.integers(stop or len(content))] ^= random.integers(1, 256)
    path.write_bytes(content)


def test_no_changed_byte_of_a_chunk_gives_features_or_an_error(project: Path) -> None:
    random = np.random.default_rng(1)
    images = image_keys(read_table(MANIFEST))
    info = FeatureReader().info
    chunk = first_chunk(1)
    content = chunk.read_bytes()
    for _ in range(400):
        chunk.write_bytes(content)
        change_byte(chunk, random)
        view = ViewChunks(CHUNKS, info.keys[1], images, (info.dim,))
        assert sum(number in view for number in range(IMAGES)) == IMAGES - IN_FIRST_CHUNK


def test_a_chunk_of_another_backbone_in_the_place_of_ours_is_computed_again(
    project: Path, backbones: dict[str, Path], computed: Callable[[], int]
) -> None:
    expected, ours = contents(FEATURES), first_chunk(0)
    use_backbone(project, backbones["weights"])
    computed()
    foreign = folder_of(0) / ours.name  # the same images, so the same name
    assert foreign.stat().st_size == ours.stat().st_size
    shutil.copy(foreign, ours)
    use_backbone(project, backbones["first"])
    assert computed() == IN_FIRST_CHUNK
    assert contents(FEATURES) == expected


def test_chunks_of_another_view_in_the_place_of_ours_are_computed_again(
    project: Path, computed: Callable[[], int]
) -> None:
    expected = contents(FEATURES)
    shutil.copytree(folder_of(1), folder_of(0), dirs_exist_ok=True)
    assert computed() == IMAGES
    assert contents(FEATURES) == expected


def is_refused() -> bool:
    try:
        FeatureReader()
    except DataError:
        return True
    return False


def test_each_changed_byte_of_the_features_is_refused_by_the_reader(project: Path) -> None:
    random = np.random.default_rng(2)
    for path in sorted(FEATURES.iterdir()):
        content = path.read_bytes()
        for stop in [128] * 40 + [len(content)] * 40:  # 128: the header of a view
            change_byte(path, random, stop=min(stop, len(content)))
            # other white space between the values of features.json says the same
            assert is_refused() or means_the_same(path, content), f"{path} was changed"
            path.write_bytes(content)
    assert not is_refused()


def means_the_same(path: Path, content: bytes) -> bool:
    return path.suffix == ".json" and json.loads(path.read_bytes()) == json.loads(content)
