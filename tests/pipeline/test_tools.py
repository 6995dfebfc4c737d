"""The tools on finished runs of the real pipeline, on drawn images and a network with random weights."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from benchmarks.workspace import Workspace
from dermoscopy.data.images import read_image
from dermoscopy.data.sources import sample
from dermoscopy.features.views import Warp, render_views
from dermoscopy.scoring.metrics import read_metrics
from tests.support.drawn_project import CHANGES, drawn_project
from tests.support.params_file import PARAMS
from tools.external import ISIC_CLASSES

pytestmark = pytest.mark.slow

SIZE = CHANGES["backbone"]["image_size"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workspace:
    """A finished run, committed, and an experiment on it, which is what the workspace holds."""
    split = {"validation": 0.3}  # so that half of the images still have all classes in it
    workspace = drawn_project(tmp_path_factory.mktemp("tools") / "project", cache, split=split)
    workspace.dvc("repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "first run")
    workspace.dvc("exp", "run", "--name", "longer", "-S", "train.epochs=30", "-S", "train.learning_rate=0.01")
    return workspace


def test_dvc_shows_and_compares_metrics_with_intervals_and_nulls(project: Workspace) -> None:
    shown = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]["metrics/metrics.json"]["data"]
    numbers = [shown["test"][name] for name in ("balanced_accuracy", "ece", "log_loss_calibrated", "temperature")]
    assert all(isinstance(number, float) for number in numbers)
    assert isinstance(shown["test"]["screening"]["sensitivity_at_90_specificity"], float)
    assert "balanced_accuracy_ci" not in shown["test"]  # DVC leaves lists out
    difference = project.dvc("metrics", "diff", "--all", "HEAD")
    for name in ("test.balanced_accuracy", "test.screening.auc", "validation.log_loss"):
        assert name in difference
    assert "_ci" not in difference


def test_dvc_draws_both_reliability_curves_and_the_trade_off_in_the_order_of_the_exponent(project: Workspace) -> None:
    vega = json.loads(project.dvc("plots", "diff", "HEAD", "longer", "--json"))
    assert "errors" not in vega
    (key,) = [name for name in vega["data"] if name.endswith("reliability.csv")]
    content = json.dumps(vega["data"][key])
    assert "as predicted" in content
    assert "calibrated" in content
    (key,) = [name for name in vega["data"] if name.endswith("trade_off.csv")]
    content = json.dumps(vega["data"][key])
    assert '"field": "prior_exponent"' in content.replace("\\", "")
    assert "balanced_accuracy" in content


def test_a_commit_and_an_experiment_of_the_real_pipeline_are_compared(project: Workspace) -> None:
    output = project.python("-m", "tools.compare", "HEAD", "longer")
    assert " test images of " in output
    assert [line.split() for line in output.splitlines() if line.startswith("train.epochs")] == [
        ["train.epochs", "3", "30"]
    ]
    assert output.splitlines()[-1].startswith("longer is ")
    same = project.python("-m", "tools.compare", "HEAD", "workspace")
    assert same.splitlines()[-1] == output.splitlines()[-1].replace("longer", "workspace")


def test_cross_validation_runs_on_the_cached_features(project: Workspace) -> None:
    status = project.run("git", "status", "--porcelain", "metrics/training", "data", "models")
    output = project.python("-m", "tools.crossvalidate", "--folds", "2")
    assert "crossvalidate: 2 folds, 100 images predicted" in output
    assert json.loads((project.folder / "metrics/crossvalidation.json").read_text())["pooled"]["support"] == 100
    assert project.run("git", "status", "--porcelain", "metrics/training", "data", "models") == status


def test_the_head_is_trained_again_with_other_seeds_and_params_and_nothing_else_changes(project: Workspace) -> None:
    kept = project.run("git", "status", "--porcelain")
    output = project.python("-m", "tools.repeat", "-n", "2", "-S", "train.dropout=0.2", "--out", "again.json")
    assert "repeat: 2 splits and trainings" in output
    result = json.loads((project.folder / "again.json").read_text())
    assert result["params"] == ["train.dropout=0.2"]
    assert [run["seed"] for run in result["runs"]] == [1, 2]
    assert result["mean"]["test"]["accuracy"] == pytest.approx(
        np.mean([run["test"]["accuracy"] for run in result["runs"]])
    )
    (project.folder / "again.json").unlink()
    assert project.run("git", "status", "--porcelain") == kept
    # the first is the run of the workspace, if that has seed 1 and these params
    project.python("-m", "tools.repeat", "-n", "2", "--out", "again.json")
    result = json.loads((project.folder / "again.json").read_text())
    (project.folder / "again.json").unlink()
    test = project.metrics()["test"]
    for name in ("accuracy", "balanced_accuracy", "log_loss", "log_loss_calibrated"):
        assert result["runs"][0]["test"][name] == pytest.approx(test[name], abs=1e-5)


def test_runs_are_compared_over_seeds_on_their_own_features(project: Workspace) -> None:
    output = project.python("-m", "tools.compare", "HEAD", "longer", "workspace", "--seeds", "2")
    assert "2 seeds of split and training" in output
    *_, longer, workspace = output.splitlines()
    assert longer.startswith("longer is ")
    assert longer.endswith(", over 2 seeds.")
    assert longer.replace("longer", "workspace") == workspace  # it holds the same params
    same = project.python("-m", "tools.compare", "longer", "workspace", "--seeds", "2")
    assert same.splitlines()[-1] == "longer and workspace are identical: the same test metrics with every seed."


def paths_of(project: Workspace, image_ids: "pd.Series[str]") -> list[str]:
    """Return the paths of some images, from the top of the project."""
    manifest = pd.read_csv(project.folder / "data/manifest.csv", index_col="image_id")
    return list(manifest["path"][image_ids])


def test_the_exported_classifier_gives_the_predictions_from_raw_images(project: Workspace, keras: Any) -> None:
    project.python("-m", "tools.export")
    classifier = keras.models.load_model(project.folder / "models/classifier.keras", safe_mode=True)
    predictions = pd.read_csv(project.folder / "data/predictions.csv")
    files = [project.folder / path for path in paths_of(project, predictions["image_id"])]
    images = np.stack([render_views(read_image(path), [Warp()], SIZE)[0] for path in files]).astype(np.float32)
    np.testing.assert_allclose(classifier.predict(images, verbose=0), predictions.filter(regex="^p_"), atol=1e-4)


def test_predict_gives_images_what_the_pipeline_gave_them_and_names_those_it_cannot_read(project: Workspace) -> None:
    # the image alone: its views depend here on its id, and there on its content
    expected = pd.read_csv(project.folder / "data/predictions.csv")
    paths = paths_of(project, expected["image_id"])
    bad = project.folder / "bad.jpg"
    bad.write_text("no image")
    output = project.python("-m", "tools.predict", *paths, str(bad), "--no-tta", "--csv", "new.csv", status=1)
    assert [line for line in output.splitlines() if line.startswith(f"error: {bad}: ")]
    assert "Traceback" not in output
    found = pd.read_csv(project.folder / "new.csv")
    assert list(found["image"]) == paths
    assert list(found["predicted"]) == list(expected["predicted"])
    np.testing.assert_allclose(found[expected.filter(regex="^p_").columns], expected.filter(regex="^p_"), atol=1e-5)
    np.testing.assert_allclose(found["p_malignant"], expected[["p_akiec", "p_bcc", "p_mel"]].sum(axis=1), atol=1e-5)
    assert "p_malignant is the sum of akiec, bcc, mel" in output


def test_predict_needs_no_tensorflow(project: Workspace) -> None:
    image = pd.read_csv(project.folder / "data/manifest.csv")["path"][0]
    code = (
        f"import sys; sys.argv = ['predict', {image!r}]; import tools.predict; tools.predict.main(); "
        "assert 'tensorflow' not in sys.modules"
    )
    assert "p_mel" in project.python("-c", code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, project: Workspace) -> Path:
    """40 new images of three classes, three that the project has, and two of a class that no model knows."""
    folder = tmp_path_factory.mktemp("external")
    drawn = tmp_path_factory.mktemp("drawn")
    sample.fetch(PARAMS.data.model_copy(update={"sample_images": 300, "seed": 9}), drawn, drawn)
    labels = pd.read_csv(drawn / "labels.csv", keep_default_na=False).set_index("image_id")["dx"]
    chosen = pd.concat([labels[labels == "nv"][:30], labels[labels == "mel"][:6], labels[labels == "bkl"][:4]])
    chosen = pd.concat([chosen, labels[labels == "df"][:2].replace("df", "scc")])
    for number, image_id in enumerate(chosen.index):
        pixels = read_image(next((drawn / "images").glob(f"{image_id}.*")))
        cv2.imwrite(str(folder / f"new_{number}.png"), pixels[..., ::-1])
    known = pd.read_csv(project.folder / "data/manifest.csv").head(3)
    for number, path in enumerate(known["path"]):
        (folder / f"copy_{number}.jpg").write_bytes((project.folder / path).read_bytes())
    names = [f"new_{number}" for number in range(len(chosen))] + [f"copy_{number}" for number in range(3)]
    classes = [*chosen, *known["label"]]
    table = pd.DataFrame({"image": names})
    for name in ["MEL", "NV", "BKL", "SCC", *{label.upper() for label in known["label"]} - {"MEL", "NV", "BKL"}]:
        table[name] = [float(label.upper() == name) for label in classes]
    table.to_csv(folder / "truth.csv", index=False)
    return folder


class TestExternal:
    """Another folder of drawn images, with the label table of the challenge."""

    def external(self, project: Workspace, *arguments: str, status: int = 0) -> str:
        return project.python("-m", "tools.external", *arguments, status=status)

    def test_new_images_of_known_classes_are_scored_and_all_are_submitted(
        self, project: Workspace, folder: Path
    ) -> None:
        output = self.external(project, str(folder))
        known = "images left out, because the project's own data have their content, id, lesion or patient: 3"
        assert f"warning: external: {known}" in output
        assert "warning: external: images left out, because the model does not know their class: 2 scc" in output
        assert (
            "warning: external: no recall, F1, AUC or macro AUC for akiec, bcc, df, vasc: no image is of it" in output
        )
        metrics = read_metrics(project.folder / "external/metrics.json")["external"]
        assert metrics.support == 40
        assert metrics.per_class["nv"].support == 30
        assert metrics.balanced_accuracy_ci is not None
        submission = pd.read_csv(project.folder / "external/submission.csv")
        assert list(submission.columns) == ["image", *ISIC_CLASSES]
        assert sorted(submission["image"]) == sorted(path.stem for path in folder.glob("*.[pj]*g"))
        assert submission[ISIC_CLASSES].sum(axis="columns").to_numpy() == pytest.approx(1, abs=1e-5)

    def test_the_probabilities_are_those_that_predict_gives(self, project: Workspace, folder: Path) -> None:
        self.external(project, str(folder), "--out", "again")
        files = sorted(str(path) for path in folder.glob("*.[pj]*g"))
        project.python("-m", "tools.predict", *files, "--csv", "expected.csv")
        expected = pd.read_csv(project.folder / "expected.csv")
        submission = pd.read_csv(project.folder / "again/submission.csv").set_index("image")
        found = submission.loc[[Path(name).stem for name in expected["image"]]]
        for name in ISIC_CLASSES:
            assert found[name].to_numpy() == pytest.approx(expected[f"p_{name.lower()}"].to_numpy(), abs=1e-6)

    def test_the_mean_of_a_commit_and_an_experiment_is_tested(self, project: Workspace, folder: Path) -> None:
        params = (project.folder / "params.yaml").read_bytes()
        submissions = {}
        for names in (["HEAD"], ["longer"], ["HEAD", "longer"]):
            output = self.external(project, str(folder), "--out", "averaged", "--models", *names)
            known = "images left out, because the data of the models have their content, id, lesion or patient: 3"
            assert f"warning: external: {known}" in output
            submissions[len(names), names[0]] = pd.read_csv(
                project.folder / "averaged/submission.csv", index_col="image"
            )
        assert "note: external: the mean of 2 models: HEAD, longer" in output.splitlines()
        first, longer, both = submissions.values()
        np.testing.assert_allclose(both, (first + longer) / 2, rtol=0, atol=1e-7)
        assert np.abs(first.to_numpy() - longer.to_numpy()).max() > 1e-4
        table = pd.read_csv(project.folder / "averaged/predictions.csv")
        assert list(table.columns) == ["image_id", "part", "label", "predicted", *table.filter(regex="^p_")]
        assert (project.folder / "params.yaml").read_bytes() == params

    def test_the_projects_own_images_are_refused(self, project: Workspace) -> None:
        labels = str(project.folder / "data/raw/labels.csv")
        output = self.external(project, "data/raw/images", "--labels", labels, status=1)
        assert output.splitlines()[-1].endswith("every image of data/raw/images is among those that the project has")

    def test_a_folder_that_is_not_there_and_one_with_a_bad_image_are_refused(
        self, project: Workspace, tmp_path: Path
    ) -> None:
        assert "is not there" in self.external(project, str(tmp_path / "missing"), status=1)
        (tmp_path / "a.jpg").write_text("no image")
        (tmp_path / "labels.csv").write_text("image_id,dx\na,nv\n")
        output = self.external(project, str(tmp_path), status=1)
        assert "error: 1 of 1 labelled images are bad: " in output
        assert "Traceback" not in output
