"""The whole pipeline on real dermoscopic images, with MobileNetV2's real ImageNet weights."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.images import read_image
from dermoscopy.features.views import Warp, render_views
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.workspace import environment


@pytest.fixture(scope="module")
def real(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run; the tests of this module go on from it in their order."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "shared").symlink_to(shared)
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": "directory", "directory": "../shared/data/isic2018-test"},
        "backbone": {
            "name": "MobileNetV2",
            "weights": "../shared/weights/mobilenet_v2_imagenet_notop.weights.h5",
        },
        "augmentation": {"views": 1},
    }
    workspace = Workspace(folder / "project", folder / "cache", changes)
    workspace.dvc("repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "first run")
    workspace.run("git", "tag", "first-run")
    return workspace


def test_a_real_backbone_learns_what_guessing_cannot(real: Workspace) -> None:
    test = real.metrics()["test"]
    assert test["support"] == 113
    # always saying nv gets 1/7
    assert test["balanced_accuracy"] > 0.3
    assert test["macro_auc"] > 0.7


def test_metrics_hold_to_the_contract(real: Workspace) -> None:
    metrics = real.metrics()
    assert list(metrics) == ["validation", "test"]
    with_intervals = {"accuracy", "balanced_accuracy", "macro_f1", "macro_auc"}
    names = with_intervals | {f"{name}_ci" for name in with_intervals}
    names |= {"weighted_f1", "log_loss", "ece", "support", "per_class", "screening", "notes"}
    of_a_class = {"recall", "specificity", "f1", "auc"}
    points = {
        f"{a}_at_{percent}_{b}"
        for a, b in (("sensitivity", "specificity"), ("specificity", "sensitivity"))
        for percent in (90, 95)
    }
    assert set(metrics["validation"]) == names
    assert set(metrics["test"]) == names | {"temperature", "log_loss_calibrated", "ece_calibrated"}
    for part in metrics.values():
        assert list(part["per_class"]) == ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]
        for values in part["per_class"].values():
            assert set(values) == of_a_class | {f"{name}_ci" for name in of_a_class} | {"precision", "support"}
        screening = {"auc", *points}
        assert set(part["screening"]) == screening | {f"{name}_ci" for name in screening} | {"malignant", "benign"}
        assert part["balanced_accuracy_ci"][0] < part["balanced_accuracy"] < part["balanced_accuracy_ci"][1]


def test_predictions_hold_to_the_contract(real: Workspace) -> None:
    split = pd.read_csv(real.folder / "data/split.csv")
    for name in ("predictions.csv", "predictions_tta.csv"):
        table = pd.read_csv(real.folder / "data" / name)
        probabilities = table.filter(regex="^p_")
        assert list(table.columns[:4]) == ["image_id", "part", "label", "predicted"]
        assert set(table["image_id"]) == set(split["image_id"][split["part"] != "train"])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        assert list("p_" + table["predicted"]) == list(probabilities.idxmax(axis=1))


def test_nothing_changed_executes_nothing(real: Workspace) -> None:
    assert executed(real.dvc("repro")) == []


def test_every_plot_is_drawn(real: Workspace) -> None:
    real.dvc("plots", "show", "--out", "page")
    page = (real.folder / "page/index.html").read_text()
    for name in (
        "Loss",
        "Accuracy",
        "Confusion matrix",
        "ROC",
        "Precision and recall",
        "Reliability",
        "Images of each",
    ):
        assert name in page
    assert list((real.folder / "page/static").glob("*confusion_matrix.png"))
    vega = json.loads(real.dvc("plots", "show", "--json"))
    assert len(vega["data"]) == 9
    assert "errors" not in vega


def test_a_new_dropout_trains_evaluates_and_reports_and_nothing_else(real: Workspace) -> None:
    assert real.experiment("train.dropout=0.4", "train.epochs=5") == ["train", "evaluate", "report"]
    difference = real.dvc("metrics", "diff", "HEAD")
    assert "test.balanced_accuracy" in difference
    rows = list(csv.DictReader(io.StringIO(real.dvc("exp", "show", "--csv"))))
    assert float(rows[0]["test.balanced_accuracy"]) > 0
    assert {row["train.dropout"] for row in rows} >= {"0.4", "0.5"}


def test_scoring_without_averaged_views_only_evaluates_and_reports(real: Workspace) -> None:
    executed_stages = real.experiment("train.dropout=0.4", "train.epochs=5", "evaluate.tta=false")
    assert executed_stages == ["evaluate", "report"]


def test_the_gallery_only_reports(real: Workspace) -> None:
    changes = ("train.dropout=0.4", "train.epochs=5", "evaluate.tta=false")
    assert real.experiment(*changes, "report.gallery=1") == ["report"]


def test_more_views_compute_only_the_new_ones_and_a_return_only_reports(real: Workspace) -> None:
    def chunks() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (real.folder / "data/.features").glob("*/[!.]*.chunk")}

    before = chunks()
    view = (real.folder / "data/features/view_001.npy").read_bytes()
    assert "features" in real.experiment("augmentation.views=2", "train.epochs=2")
    after = chunks()
    assert {path: after[path] for path in before} == before
    assert len({path.parent for path in set(after) - set(before)}) == 1
    assert (real.folder / "data/features/view_001.npy").read_bytes() == view
    first = ("augmentation.views=1", "train.dropout=0.5", "train.epochs=150", "evaluate.tta=true", "report.gallery=3")
    # DVC keeps no run cache of a stage with an output for Git that is neither metric nor plot: the model card
    assert real.experiment(*first) == ["report"]
    # it writes the same again
    assert real.run("git", "diff", "--stat", "first-run", "--", "report", "metrics", "plots") == ""


def test_a_killed_features_stage_loses_at_most_one_chunk(real: Workspace) -> None:
    store = real.folder / "data/.features"
    expected = {path.name: path.read_bytes() for path in (real.folder / "data/features").iterdir()}
    shutil.rmtree(store)
    shutil.rmtree(real.folder / "data/features")
    command = [sys.executable, "-m", "stages.features"]
    process = subprocess.Popen(command, cwd=real.folder, env=environment(), stderr=subprocess.DEVNULL)
    while not list(store.glob("*/[!.]*.chunk")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in store.glob("*/[!.]*.chunk")}
    assert not (real.folder / "data/features").exists()
    real.python("-m", "stages.features")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert {path.name: path.read_bytes() for path in (real.folder / "data/features").iterdir()} == expected


def test_queued_experiments_finish_and_find_a_relative_directory(real: Workspace) -> None:
    real.dvc("exp", "run", "--queue", "-S", "train.learning_rate=0.001,0.002,0.004", "-S", "train.epochs=2")
    # a param of the download stage, so that it runs in DVC's temporary copy of the project
    real.dvc("exp", "run", "--queue", "-S", "data.seed=2", "-S", "train.epochs=2")
    status = real.finish_queue()
    assert status.count("Success") == 4, status


def test_the_exported_classifier_gives_the_predictions_from_raw_images(real: Workspace) -> None:
    real.python("-m", "tools.export")
    keras = start_keras(0)
    classifier = keras.models.load_model(real.folder / "models/classifier.keras", safe_mode=True)
    predictions = pd.read_csv(real.folder / "data/predictions.csv").head(40)
    paths = pd.read_csv(real.folder / "data/manifest.csv", index_col="image_id")["path"][predictions["image_id"]]
    images = np.stack([render_views(read_image(Path(path)), [Warp()], 224)[0] for path in paths]).astype(np.float32)
    np.testing.assert_allclose(classifier.predict(images, verbose=0), predictions.filter(regex="^p_"), atol=1e-4)


@pytest.mark.parametrize(("option", "table"), [([], "predictions.csv"), (["--tta"], "predictions_tta.csv")])
def test_predict_gives_new_images_what_the_pipeline_gave_them(real: Workspace, option: list[str], table: str) -> None:
    expected = pd.read_csv(real.folder / "data" / table).head(70)
    paths = pd.read_csv(real.folder / "data/manifest.csv", index_col="image_id")["path"][expected["image_id"]]
    bad = real.folder / "bad.jpg"
    bad.write_text("no image")
    output = real.python("-m", "tools.predict", *paths, str(bad), *option, "--csv", "new.csv", status=1)
    assert f"error: {bad}: not an image in one of the formats JPEG, PNG, BMP, TIFF, WEBP" in output.splitlines()
    found = pd.read_csv(real.folder / "new.csv")
    assert list(found["image"]) == list(paths)
    assert list(found["predicted"]) == list(expected["predicted"])
    np.testing.assert_allclose(found.filter(regex="^p_"), expected.filter(regex="^p_"), atol=1e-5)


def test_predict_needs_no_tensorflow(real: Workspace) -> None:
    image = pd.read_csv(real.folder / "data/manifest.csv")["path"][0]
    code = (
        f"import sys; sys.argv = ['predict', {image!r}]; import tools.predict; tools.predict.main(); "
        "assert 'tensorflow' not in sys.modules"
    )
    assert "p_mel" in real.python("-c", code)
