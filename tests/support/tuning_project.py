"""A project whose backbone can be fine-tuned in seconds: coloured noise, and a network that can learn from it."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from dermoscopy.data.images import read_image
from dermoscopy.features.networks import build_backbone, write_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.runtime.keras_start import start_keras
from stages import manifest, split
from tests.support.finished_run import run_stages
from tests.support.params_file import write_params

SIZE = 64
IMAGES = 200
PARAMS: dict[str, dict[str, Any]] = {
    "data": {"source": "sample", "sample_images": IMAGES},
    "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": SIZE},
    "augmentation": {"views": 1, "zoom": 0.0},
    "finetune": {"epochs": 3, "layers": 3, "views": 1, "learning_rate": 0.00001, "batch_size": 16, "patience": 5},
    "train": {"epochs": 5},
}


def draw_coloured_images(raw: Path) -> None:
    """Write a data/raw of noise in JPEGs, of three classes, each of its colour."""
    random = np.random.default_rng(0)
    (raw / "images").mkdir(parents=True)
    names = [f"ISIC_{number:07d}" for number in range(IMAGES)]
    for number, name in enumerate(names):
        noise = random.integers(80, 120, (8, 8, 3), np.uint8)
        noise[..., number % 3] += 100
        cv2.imwrite(str(raw / f"images/{name}.jpg"), cv2.resize(noise, (SIZE, SIZE)))
    labels = pd.DataFrame({"image_id": names, "dx": [("nv", "mel", "bcc")[number % 3] for number in range(IMAGES)]})
    labels.to_csv(raw / "labels.csv", index=False)


def fill_tuning_project(folder: Path) -> None:
    """Write params, images, their split, and a backbone."""
    folder.mkdir(exist_ok=True)
    write_params(folder, PARAMS)
    draw_coloured_images(folder / "data/raw")
    run_stages(folder, [manifest, split])
    model = calibrated_backbone(folder / "data/raw")
    (folder / "models/backbone").mkdir(parents=True)
    write_backbone(model, "MobileNetV2", folder / "models/backbone")


def calibrated_backbone(raw: Path) -> Any:
    """Return a backbone with random weights whose normalization layers have the statistics of images.

    As they are built, random weights make features so small that nothing can be learnt from them.
    """
    start_keras(seed=1)
    import keras

    model = build_backbone("MobileNetV2", None, SIZE)
    pixels = [read_image(path) for path in sorted((raw / "images").iterdir())]
    images = np.concatenate([render_views(one, [Warp()], SIZE) for one in pixels]).astype(np.float32)
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
    network(model.get_layer("preprocessing")(images), training=True)
    model.trainable = False
    return model


def copy_project(project: Path, folder: Path) -> Path:
    """Copy it to a folder that does not exist yet."""
    return Path(shutil.copytree(project, folder))
