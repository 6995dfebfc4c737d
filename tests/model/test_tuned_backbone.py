"""A fine-tuned backbone: what changes, what does not, and that an interruption changes nothing."""

import re
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.processes import stage_command, stage_environment
from benchmarks.workers import Worker
from dermoscopy.data.images import read_image
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.engines.keras_engine import KerasEngine
from dermoscopy.features.finetuned import FinetuningInfo, final_backbone, read_finetuning, read_tuned_on
from dermoscopy.features.networks import load_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model import tuned_backbone
from dermoscopy.model.tuning_files import Progress
from dermoscopy.runtime.paths import BACKBONE, FINETUNED
from stages import finetune
from tests.support.finished_run import run_stages
from tests.support.once import made_once
from tests.support.params_file import write_params
from tests.support.stage_project import contents, run_stage
from tests.support.tuning_project import PARAMS, SIZE, copy_project, fill_tuning_project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project before its backbone is tuned; change copies only."""
    return made_once(tmp_path_factory, "tuning_project", fill_tuning_project)


@pytest.fixture(scope="module")
def tuned(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose backbone is tuned; change copies only."""
    folder = copy_project(project, tmp_path_factory.mktemp("tuned") / "project")
    run_once(folder)
    return folder


@pytest.fixture(scope="module")
def tuned_by_jax(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy whose backbone was tuned by Keras on JAX."""
    folder = copy_project(project, tmp_path_factory.mktemp("tuned") / "by_jax")
    write_params(folder, PARAMS | {"features": {"engine": "jax"}})
    run_once(folder)
    return folder


def run_once(folder: Path) -> None:
    """Run the stage as DVC does, in a process of its own."""
    result = run_stage(folder, "finetune")
    assert result.returncode == 0, result.stderr


def change(folder: Path, **values: Any) -> None:
    write_params(folder, PARAMS | {"finetune": PARAMS["finetune"] | values})


def history(folder: Path) -> list[dict[str, float]]:
    """Return the metrics of each epoch of the one tuning of a project."""
    (path,) = (folder / "models/.finetune").glob("*/progress.json")
    return Progress.model_validate_json(path.read_bytes()).history


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_epoch_of_the_lowest_validation_loss_is_kept(tuned: Path) -> None:
    losses = [values["val_loss"] for values in history(tuned)]
    done = read_finetuning(tuned)
    assert done.epochs == len(losses) - 1 == 3
    assert done.kept == int(np.argmin(losses)) > 0
    assert final_backbone(tuned) == tuned / FINETUNED
    log = pd.read_csv(tuned / FINETUNED / "log/plots/metrics/eval/loss.tsv", sep="\t")
    assert list(log["loss"]) == pytest.approx(losses)


def test_only_the_layers_above_the_cut_have_changed_and_the_folder_is_a_backbone_like_any_other(tuned: Path) -> None:
    before, after = load_backbone(tuned / BACKBONE), load_backbone(tuned / FINETUNED)
    pairs = zip(before.weights, after.weights, strict=True)
    changed = {old.path.rsplit("/", 2)[-2:][0] + "/" + old.name for old, new in pairs if not np.array_equal(old, new)}
    assert changed == {"Conv_1/kernel", "Conv_1_bn/gamma", "Conv_1_bn/beta"}  # and not the statistics
    old, new = read_backbone_info(tuned / BACKBONE), read_backbone_info(tuned / FINETUNED)
    assert (new.name, new.image_size, new.dim) == (old.name, old.image_size, old.dim)
    assert new.fingerprint != old.fingerprint
    assert [layer.trainable for layer in after.layers] == [layer.trainable for layer in before.layers]


def test_what_it_was_tuned_on_is_the_training_and_validation_part(tuned: Path) -> None:
    split = pd.read_csv(tuned / "data/split.csv")
    seen = split[split["part"] != "test"].set_index("image_id")["part"]
    tuned_on = read_tuned_on(tuned).set_index("image_id")["part"]
    pd.testing.assert_series_equal(tuned_on.sort_index(), seen.sort_index(), check_dtype=False)


def test_the_same_params_give_the_same_bytes_elsewhere(project: Path, tuned: Path, tmp_path: Path) -> None:
    other = copy_project(project, tmp_path / "project")
    run_once(other)
    assert files(other / FINETUNED) == files(tuned / FINETUNED)


@pytest.mark.parametrize(
    ("kind", "engine"), [(signal.SIGKILL, "auto"), (signal.SIGINT, "auto"), (signal.SIGKILL, "jax")]
)
def test_killed_after_an_epoch_it_goes_on_from_there_and_gives_the_same_bytes(
    project: Path, request: pytest.FixtureRequest, tmp_path: Path, kind: signal.Signals, engine: str
) -> None:
    uninterrupted = request.getfixturevalue("tuned_by_jax" if engine == "jax" else "tuned")
    folder = copy_project(project, tmp_path / "project")
    write_params(folder, PARAMS | {"features": {"engine": engine}})
    process = subprocess.Popen(
        stage_command("finetune"), cwd=folder, env=stage_environment(), stderr=subprocess.PIPE, text=True
    )
    while not list(folder.glob("models/.finetune/*/epoch_1.weights.h5")):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(kind)
    _, printed = process.communicate()
    assert process.returncode == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    assert "Traceback" not in printed
    assert not (folder / FINETUNED).exists()
    done = list(folder.glob("models/.finetune/*/epoch_[12].weights.h5"))
    times = {path: path.stat().st_mtime_ns for path in done}
    assert len(history(folder)) < 4
    run_once(folder)
    assert files(folder / FINETUNED) == files(uninterrupted / FINETUNED)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items() if path.exists())


def test_a_finished_tuning_is_not_done_again(tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_project(tuned, tmp_path / "project")
    expected = files(folder / FINETUNED)
    monkeypatch.delattr(tuned_backbone, "tune")
    run_stages(folder, [finetune])
    assert files(folder / FINETUNED) == expected


def test_a_rate_that_destroys_the_features_ends_early_and_leaves_the_backbone_frozen(
    project: Path, tmp_path: Path
) -> None:
    folder = copy_project(project, tmp_path / "project")
    change(folder, learning_rate=1.0, epochs=9, patience=1)
    run_stages(folder, [finetune])
    assert (read_finetuning(folder).epochs, read_finetuning(folder).kept) == (1, 0)
    assert final_backbone(folder) == folder / BACKBONE
    assert sorted(path.name for path in (folder / FINETUNED).iterdir()) == ["finetuning.json", "log"]
    assert read_tuned_on(folder).empty


@pytest.mark.parametrize("room", ["no room on the disk", "all layers"])
def test_without_a_trunk_the_images_go_through_the_whole_network(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], room: str
) -> None:
    folder = copy_project(project, tmp_path / "project")
    if room == "all layers":
        change(folder, layers="all", epochs=1)
    else:
        change(folder, epochs=1)
        monkeypatch.setattr(ViewChunks, "bytes_missing", 10**18)
    run_stages(folder, [finetune])
    assert not list((folder / "data/.activations").glob("*/*.chunk"))
    warned = "run again in every epoch" in capsys.readouterr().err
    assert warned == (room != "all layers")
    assert read_finetuning(folder).epochs == 1


def test_a_backbone_tuned_by_another_backend_is_one_for_all_engines(tuned_by_jax: Path) -> None:
    losses = [values["val_loss"] for values in history(tuned_by_jax)]
    assert read_finetuning(tuned_by_jax).kept == int(np.argmin(losses)) > 0
    pixels = [read_image(path) for path in sorted((tuned_by_jax / "data/raw/images").iterdir())[:5]]
    images = [render_views(one, [Warp()], SIZE)[0] for one in pixels]
    expected = load_engine("tensorflow", tuned_by_jax / FINETUNED).compute(images, 5)
    frozen = load_engine("tensorflow", tuned_by_jax / BACKBONE).compute(images, 5)
    assert np.abs(expected - frozen).max() > 1e-3 * np.abs(expected).max()
    in_openvino = load_engine("openvino", tuned_by_jax / FINETUNED).compute(images, 5)
    assert np.abs(in_openvino - expected).max() < 1e-4 * np.abs(expected).max()
    with closing(Worker(load_engine, "jax", tuned_by_jax / FINETUNED)) as worker:
        by_jax = worker.call(KerasEngine.compute, images, 5)  # type: ignore[arg-type] # it is one
    assert np.abs(by_jax - expected).max() < 1e-4 * np.abs(expected).max()


def test_off_it_takes_no_tensorflow_and_says_so(project: Path, tmp_path: Path) -> None:
    folder = copy_project(project, tmp_path / "project")
    change(folder, epochs=0)
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "stages.finetune"],
        cwd=folder,
        env=stage_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert not re.search(r"\| +(keras|tensorflow)$", result.stderr, re.MULTILINE)
    assert result.stdout.startswith("finetune: nothing to do")
    assert contents(folder / FINETUNED).keys() == {"finetuning.json"}
    assert read_finetuning(folder) == FinetuningInfo()
