"""The whole pipeline, run by DVC, at several sizes of each image."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.images import read_image
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.activation_maps import LastMaps
from dermoscopy.model.head import load_head
from dermoscopy.model.repetition import require_current_features
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from tests.support.drawn_project import drawn_project

pytestmark = pytest.mark.slow

SIZES = [32, 64]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workspace:
    """An experiment at two sizes, on a finished run at the smaller one."""
    workspace = drawn_project(tmp_path_factory.mktemp("sizes") / "project", cache)
    workspace.dvc("repro")
    workspace.experiment("backbone.image_size=[64,32]")
    return workspace


@pytest.fixture(scope="module")
def predictions(project: Workspace) -> pd.DataFrame:
    """The predictions of the pipeline from the images alone, with their paths."""
    paths = pd.read_csv(project.folder / "data/manifest.csv")[["image_id", "path"]]
    return pd.read_csv(project.folder / "data/predictions.csv").merge(paths, on="image_id")


def views_of(project: Workspace, paths: "pd.Series[str]") -> NDArray[np.uint8]:
    """Return images as the backbone takes them."""
    return np.stack([render_views(read_image(project.folder / path), [Warp()], SIZES[-1])[0] for path in paths])


def test_an_experiment_at_two_sizes_has_the_features_of_both(project: Workspace) -> None:
    assert np.load(project.folder / "data/features/view_001.npy").shape == (100, 2 * 1280)
    assert project.metrics()["test"]["support"] > 0


def test_nothing_is_left_to_run(project: Workspace) -> None:
    assert executed(project.dvc("repro")) == []


def test_features_of_other_sizes_are_noticed(project: Workspace) -> None:
    manifest = pd.read_csv(project.folder / "data/manifest.csv")
    path = project.folder / "params.yaml"
    require_current_features(manifest, load_params(path), project.folder)
    for other in ("[32,96]", "[32,64,128]", "64"):
        with pytest.raises(DataError, match="is of other images, another backbone or other views"):
            require_current_features(manifest, load_params(path, [f"backbone.image_size={other}"]), project.folder)


def test_the_page_and_the_model_card_name_all_sizes(project: Workspace) -> None:
    words = "32 x 32 and 64 x 64 pixels"
    assert words in (project.folder / "report/index.html").read_text()
    assert words in (project.folder / "report/MODEL_CARD.md").read_text()


def test_what_the_places_of_the_gallery_add_up_to_is_what_the_head_said(
    project: Workspace, predictions: pd.DataFrame, keras: Any
) -> None:
    head, _ = load_head(project.folder / "models/head.npz", project.folder / "models/head.json")
    last_maps = LastMaps(project.folder / "models/backbone")
    shown = predictions.head(5)
    for pixels, expected in zip(views_of(project, shown["path"]), shown.filter(regex="^p_").to_numpy(), strict=True):
        logits = head.activation_maps(last_maps.maps(pixels)).mean(axis=(0, 1)) + head.bias
        np.testing.assert_allclose(softmax(logits), expected, rtol=1e-3, atol=1e-6)
    assert 'src="data:image/webp' in (project.folder / "report/index.html").read_text()


def test_new_images_are_predicted_as_the_pipeline_did(project: Workspace, predictions: pd.DataFrame) -> None:
    project.python("-m", "tools.predict", *predictions["path"], "--no-tta", "--csv", "new.csv")
    found = pd.read_csv(project.folder / "new.csv")
    expected = predictions.filter(regex="^p_")
    np.testing.assert_allclose(found[expected.columns], expected, atol=1e-5)


def test_the_exported_classifier_runs_images_at_all_sizes(
    project: Workspace, predictions: pd.DataFrame, keras: Any
) -> None:
    assert "takes RGB images of any size" in project.python("-m", "tools.export")
    classifier = keras.models.load_model(project.folder / "models/classifier.keras", safe_mode=True)
    found = classifier.predict(views_of(project, predictions["path"]).astype(np.float32), verbose=0)
    np.testing.assert_allclose(found, predictions.filter(regex="^p_"), atol=1e-4)
