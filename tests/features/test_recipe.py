"""The recipe of features: known values that change when it does, and what the key of a view depends on."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pandas as pd
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from dermoscopy.data.images import ImageFile
from dermoscopy.features import extraction, recipe
from dermoscopy.features.engines.choice import Engine, load_engine
from dermoscopy.features.networks import write_backbone
from dermoscopy.features.recipe import RECIPE_VERSION, image_keys, view_key
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import PARAMS

SIZE = 48
AUGMENTATION = Augmentation(views=2, horizontal_flip=True, vertical_flip=True, rotation=0.3, zoom=0.2, seed=1)
# Above what another processor may round otherwise, and below what half a percent of zoom does.
TOLERANCE = 1e-3

# By version of the recipe: the features, 8 numbers a line, of views 0, 1 and 2 of each of the three images.
KNOWN: dict[int, list[list[float]]] = {
    2: [
        [15.947, 16.955, 22.148, 22.93, 19.016, 17.213, 3367.1, 4018.5],
        [14.034, 15.347, 24.589, 21.363, 18.802, 15.047, 3301.0, 3933.5],
        [12.519, 12.427, 26.235, 19.447, 20.69, 13.684, 3197.6, 3805.3],
        [15.405, 16.063, 26.887, 23.775, 20.403, 16.895, 2549.8, 2976.1],
        [16.804, 18.42, 24.691, 22.793, 18.286, 19.776, 2325.2, 2701.9],
        [14.108, 14.701, 24.212, 20.823, 17.118, 15.043, 2552.6, 2978.7],
        [11.909, 15.087, 10.849, 12.242, 8.2148, 12.234, 969.72, 1001.0],
        [9.7934, 12.507, 8.0827, 10.981, 6.9651, 9.2002, 972.82, 1006.8],
        [7.5355, 9.4716, 12.719, 12.372, 7.7105, 9.7535, 963.35, 998.94],
    ],
}

# Of each of the three pictures, before it is encoded: its mean, and the mean difference of neighbours in a row.
PICTURES = [[174.877, 2.315], [132.841, 2.02], [49.284, 3.318]]


@pytest.fixture(scope="module")
def pictures(photographs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """A wide and a tall one, both larger than twice SIZE, and one smaller than SIZE on one side."""
    return [photographs["bkl"], np.rot90(photographs["mel"]), photographs["nv"][200:240, 250:320]]


@pytest.fixture(scope="module")
def images(pictures: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> list[ImageFile]:
    folder = tmp_path_factory.mktemp("images")
    files = []
    for number, (pixels, suffix) in enumerate(zip(pictures, [".jpg", ".png", ".png"], strict=True), start=1):
        path = folder / f"ISIC_{number}{suffix}"
        _, content = cv2.imencode(suffix, pixels[..., ::-1])
        path.write_bytes(content.tobytes())
        files.append(ImageFile(path.stem, str(path), hashlib.sha256(content.tobytes()).hexdigest()))
    return files


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A network of one convolution with known weights: six filters see edges, which any resampling changes, two light.

    The networks of keras.applications are drawn by Keras, which may come to draw otherwise.
    """
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 8))
    kernel[..., :6] -= kernel[..., :6].mean(axis=(0, 1))
    kernel[..., 6:] = np.abs(kernel[..., 6:])
    image = keras.Input((SIZE, SIZE, 3), name="image")
    convolution = keras.layers.Conv2D(8, 3, activation="relu")
    model = keras.Model([image], keras.layers.GlobalAveragePooling2D()(convolution(image)))
    convolution.set_weights([kernel, np.zeros(8)])
    folder = tmp_path_factory.mktemp("backbone")
    write_backbone(model, "known", folder)
    return load_engine("openvino", folder)


@pytest.fixture
def compute(engine: Engine, images: list[ImageFile]) -> Callable[[], NDArray[np.float32]]:
    """A function that returns the features, (images and their views, 8), as the features stage computes them."""

    def compute() -> NDArray[np.float32]:
        views = tuple(range(AUGMENTATION.views + 1))
        flat = [view for image in images for view in extraction.prepare_views(image, views, AUGMENTATION, SIZE)]
        return engine.compute(flat, len(flat))

    return compute


def are_known(features: NDArray[np.float32]) -> bool:
    return np.allclose(features, KNOWN[RECIPE_VERSION], rtol=TOLERANCE, atol=0)


def test_the_pictures_are_those_of_the_known_values(pictures: list[NDArray[np.uint8]]) -> None:
    found = [[pixels.mean(), np.abs(np.diff(pixels.astype(float), axis=1)).mean()] for pixels in pictures]
    assert np.allclose(found, PICTURES, rtol=TOLERANCE), (
        f"draw_lesion draws otherwise, which is no change of the recipe: write {np.round(found, 3).tolist()} down "
        "as PICTURES, and the features of the new pictures as KNOWN"
    )


def test_features_change_only_with_the_version_of_the_recipe(compute: Callable[[], NDArray[np.float32]]) -> None:
    features = compute()
    values = [[float(f"{number:.5g}") for number in row] for row in features.tolist()]
    assert RECIPE_VERSION in KNOWN, f"write the features of the new recipe down as KNOWN[{RECIPE_VERSION}]: {values}"
    assert are_known(features), (
        "the features of an image are not what they were, but features that users have stored would be taken for the "
        f"same: raise RECIPE_VERSION in dermoscopy/features/recipe.py, and write the new values down here: {values}"
    )


def stretch(name: str, factor: float) -> Callable[..., Any]:
    """Return draw_warp with one value of each warp multiplied."""
    draw_warp = extraction.draw_warp

    def draw(*arguments: Any) -> Any:
        warp = draw_warp(*arguments)
        return replace(warp, **{name: factor * getattr(warp, name)})

    return draw


def decode_reversed(*arguments: Any) -> NDArray[np.uint8]:
    return DECODE(*arguments)[..., ::-1]


def decode_without_a_line(*arguments: Any) -> NDArray[np.uint8]:
    return DECODE(*arguments)[1:]


def resize_bicubically(image: Image.Image, size: tuple[int, int], *arguments: Any) -> Image.Image:
    return RESIZE(image, size, Image.Resampling.BICUBIC)


DECODE = extraction.decode_checked
RESIZE = Image.Image.resize


@pytest.mark.parametrize(
    ("module", "name", "changed"),
    [
        (cv2, "INTER_LINEAR", cv2.INTER_CUBIC),
        (Image.Image, "resize", resize_bicubically),
        (cv2, "BORDER_REFLECT", cv2.BORDER_REFLECT_101),
        (extraction, "draw_warp", stretch("zoom", 1.005)),
        (extraction, "draw_warp", stretch("angle", -1)),
        (extraction, "decode_checked", decode_reversed),
        (extraction, "decode_checked", decode_without_a_line),
    ],
    ids=["interpolation", "resizing", "border", "zoom", "angle", "order of colours", "decoding"],
)
def test_the_known_values_tell_a_change_of_the_recipe(
    compute: Callable[[], NDArray[np.float32]], monkeypatch: pytest.MonkeyPatch, module: Any, name: str, changed: Any
) -> None:
    monkeypatch.setattr(module, name, changed)
    assert not are_known(compute())


def key(**changes: Any) -> str:
    """Return the key of a view with some of its ingredients changed."""
    ingredients: dict[str, Any] = {"backbone": "backbone", "engine": "engine", "augmentation": AUGMENTATION, "view": 1}
    return view_key(**(ingredients | changes))


def test_backbone_engine_and_number_make_another_view() -> None:
    keys = {
        key(backbone=backbone, engine=engine, view=view)
        for backbone in ("backbone", "other")
        for engine in ("engine", "other")
        for view in (0, 1, 2)
    }
    assert len(keys) == 12


@pytest.mark.parametrize(
    ("module", "name", "changed"),
    [(recipe, "RECIPE_VERSION", RECIPE_VERSION + 1), (cv2, "__version__", "99.0"), (PIL, "__version__", "99.0")],
    ids=["recipe", "OpenCV", "Pillow"],
)
def test_what_all_features_are_made_with_makes_another_view(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, changed: Any
) -> None:
    before = [key(view=view) for view in (0, 1)]
    monkeypatch.setattr(module, name, changed)
    assert not set(before) & {key(view=view) for view in (0, 1)}


@pytest.mark.parametrize(
    "change",
    [{"horizontal_flip": False}, {"vertical_flip": False}, {"rotation": 0.2}, {"zoom": 0.1}, {"seed": 2}],
    ids=str,
)
def test_a_change_of_the_augmentation_makes_other_views_but_not_another_view_0(change: dict[str, Any]) -> None:
    changed = AUGMENTATION.model_copy(update=change)
    assert key(augmentation=changed) != key()
    assert key(augmentation=changed, view=0) == key(view=0)


def test_more_views_keep_those_there_are() -> None:
    assert key(augmentation=AUGMENTATION.model_copy(update={"views": 9})) == key()


def test_each_image_has_a_key_of_its_name_and_its_content() -> None:
    manifest = pd.DataFrame({"image_id": ["a", "a", "b"], "sha256": ["1", "2", "1"]})
    keys = image_keys(manifest)
    assert len(set(keys)) == 3
    assert {len(item) for item in keys} == {32}
    assert image_keys(manifest[::-1]) == keys[::-1]


def test_an_edited_source_file_keeps_every_view(tmp_path: Path) -> None:
    shutil.copytree(PROJECT / "dermoscopy", tmp_path / "dermoscopy", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path / "dermoscopy").rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "\nEDITED = True\n", encoding="utf-8")
    code = (
        "from dermoscopy.features.recipe import EDITED, view_key\n"
        "from dermoscopy.runtime.params import load_params\n"
        "print(view_key('backbone', 'engine', load_params().augmentation, 1))"
    )
    shutil.copy(PROJECT / "params.yaml", tmp_path)
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == view_key("backbone", "engine", PARAMS.augmentation, 1)
