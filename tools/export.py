"""Join backbone and head into one self-contained model file, models/classifier.keras.

RGB images (batch, size, size, 3), float 0 to 255, go in, class probabilities (batch, classes) come out; preprocessing,
backbone, pooling, normalization and head are inside. `keras.models.load_model` reads it without this repository.
"""

import argparse
import sys

from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.model.head_info import require_same_backbone
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.paths import CLASSIFIER


def main() -> None:
    argparse.ArgumentParser(prog="python -m tools.export", description=__doc__).parse_args()
    print("export: joining backbone and head takes some ten seconds", file=sys.stderr)
    start_keras(seed=0)
    import keras

    from dermoscopy.features.networks import load_backbone
    from dermoscopy.model.head import load_head

    head, info = load_head()
    require_same_backbone(info, read_backbone_info())
    backbone = load_backbone()
    classifier = keras.Model(backbone.inputs[0], head(backbone.outputs[0]), name="classifier")
    with replacing(CLASSIFIER) as path:
        classifier.save(path)
    size = classifier.input_shape[1]
    print(
        f"export: {CLASSIFIER} takes RGB images of {size} x {size} pixels, 0 to 255; it gives the probabilities of "
        + ", ".join(info.classes)
    )


if __name__ == "__main__":
    run_command(main)
