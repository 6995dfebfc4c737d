"""Join backbone and head into one self-contained model file, models/classifier.keras.

RGB images (batch, size, size, 3), float 0 to 255, go in, class probabilities (batch, classes) come out; preprocessing,
backbone, pooling, normalization and head are inside. `keras.models.load_model` reads it without this repository.
"""

from pathlib import Path
from typing import Any

from stages.common.backbones import BACKBONE, load_backbone, read_backbone_info
from stages.common.errors import run
from stages.common.files import replacing
from stages.common.heads import load_head, require_same_backbone
from stages.common.keras_runtime import start_keras

CLASSIFIER = Path("models/classifier.keras")


def main() -> None:
    keras = start_keras(seed=0)
    head, info = load_head(keras)
    require_same_backbone(info, read_backbone_info(BACKBONE))
    classifier = join(keras, load_backbone(keras, BACKBONE), head)
    with replacing(CLASSIFIER) as path:
        classifier.save(path)
    size = classifier.input_shape[1]
    print(
        f"export: {CLASSIFIER} takes RGB images of {size} x {size} pixels, 0 to 255; it gives the probabilities of "
        + ", ".join(info.classes)
    )


def join(keras: Any, backbone: Any, head: Any) -> Any:
    """Return a keras.Model from images to probabilities."""
    return keras.Model(backbone.inputs[0], head(backbone.outputs[0]), name="classifier")


if __name__ == "__main__":
    run(main)
