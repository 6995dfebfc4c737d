"""How well the exported files agree with predict: on real images, with the pixels of several libraries."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.workspace import Workspace
from tests.tools.test_export import in_keras, in_onnx, in_tflite

pytestmark = pytest.mark.slow

IMAGES = 1500  # of HAM10000 to train on
AT_A_TIME = 51


@pytest.fixture(scope="module")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run on some of HAM10000, with the real weights of MobileNetV2."""
    folder = tmp_path_factory.mktemp("agreement")
    data = shared / "data/ham10000"
    (folder / "images").mkdir()
    table = pd.read_csv(data / "HAM10000_metadata.csv").sample(IMAGES, random_state=0)
    table.to_csv(folder / "images/HAM10000_metadata.csv", index=False)
    for file in (data / "images").iterdir():
        if file.stem in set(table["image_id"]):
            (folder / "images" / file.name).symlink_to(file)
    changes: dict[str, dict[str, Any]] = {
        "data": {"source": "directory", "directory": str(folder / "images")},
        "backbone": {
            "name": "MobileNetV2",
            "weights": str(shared / "weights/mobilenet_v2_imagenet_notop.weights.h5"),
        },
        "augmentation": {"views": 2},
    }
    workspace = Workspace(folder / "project", folder / "cache", changes)
    workspace.dvc("repro", "train")
    return workspace


@pytest.fixture(scope="module")
def photographs(isic: Path) -> list[Path]:
    """Every third of 755 images of 600 x 450 pixels, none of which was learnt from."""
    return sorted((isic / "images").iterdir())[::3]


def test_libraries_decode_a_photograph_to_the_same_pixels(photographs: list[Path], keras: Any) -> None:
    for file in photographs[::7]:
        pixels = np.asarray(Image.open(file).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(cv2.imread(str(file)))[..., ::-1], pixels)
        np.testing.assert_array_equal(keras.utils.img_to_array(keras.utils.load_img(file)), pixels)


@pytest.mark.parametrize(
    ("form", "load", "tta"),
    [("keras", in_keras, False), ("onnx", in_onnx, False), ("tflite", in_tflite, False), ("keras", in_keras, True)],
)
def test_the_class_is_that_of_predict_and_no_probability_is_far_off(
    trained: Workspace, photographs: list[Path], keras: Any, form: str, load: Any, tta: bool
) -> None:
    table = trained.folder / f"predicted-{tta}.csv"
    if not table.exists():
        options = "--tta" if tta else "--no-tta"
        trained.python("-m", "tools.predict", *map(str, photographs), options, "--csv", table.name)
    trained.python("-m", "tools.export", f"model.{form}", *["--tta"] * tta)

    predict = load(trained.folder / f"model.{form}")
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(photographs), AT_A_TIME):
        images = [np.asarray(Image.open(file)) for file in photographs[start : start + AT_A_TIME]]
        found.append(predict(image=np.stack(images)))

    expected = pd.read_csv(table).filter(regex="^p_(?!malignant)").to_numpy()
    probabilities = np.concatenate(found)
    same = (probabilities.argmax(axis=1) == expected.argmax(axis=1)).mean()
    difference = np.abs(probabilities - expected).max()
    print(f"{form}{' --tta' * tta}: the same class {same:.1%}, largest difference {difference:.4f}")
    assert len(expected) == 252
    assert same >= 0.99
    assert difference <= 0.02
