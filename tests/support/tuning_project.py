"""A project whose backbone can be fine-tuned in seconds: drawn lesions, and a network whose activations have a scale."""

import shutil
from pathlib import Path

import numpy as np

from dermoscopy.data.images import read_image
from dermoscopy.features.networks import build_backbone, write_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.runtime.keras_start import start_keras
from stages import download, manifest, split
from tests.support.finished_run import run_stages
from tests.support.params_file import write_params

SIZE = 32
IMAGES = 100


def fill_tuning_project(folder: Path) -> None:
    """Write params, drawn images, their split, and a backbone with random weights.

    Its normalization layers get the statistics of these images: as they are built, random weights make features so
    small that nothing can be learnt from them.
    """
    folder.mkdir(exist_ok=True)
    write_params(
        folder,
        {
            "data": {"source": "sample", "sample_images": IMAGES},
            "backbone": {"name": "MobileNetV2", "weights": "random", "image_size": SIZE},
            "augmentation": {"views": 1},
            "finetune": {"epochs": 3, "views": 1, "learning_rate": 0.0003, "batch_size": 16, "patience": 5},
            "train": {"epochs": 5},
        },
    )
    run_stages(folder, [download, manifest, split])
    start_keras(seed=1)
    import keras

    model = build_backbone("MobileNetV2", None, SIZE)
    pixels = [read_image(path) for path in sorted((folder / "data/raw/images").iterdir())]
    images = np.concatenate([render_views(one, [Warp()], SIZE) for one in pixels]).astype(np.float32)
    network = next(layer for layer in model.layers if isinstance(layer, keras.Model))
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable, layer.momentum = True, 0.0
    network(model.get_layer("preprocessing")(images), training=True)
    model.trainable = False
    (folder / "models/backbone").mkdir(parents=True)
    write_backbone(model, "MobileNetV2", folder / "models/backbone")


def copy_project(project: Path, folder: Path) -> Path:
    """Copy it to a folder that does not exist yet."""
    return Path(shutil.copytree(project, folder))
