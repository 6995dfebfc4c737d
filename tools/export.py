"""Join backbone and head into one self-contained model file, models/classifier.keras.

RGB images (batch, size, size, 3), float 0 to 255, go in, class probabilities (batch, classes) come out; preprocessing,
backbone, pooling, normalization and head are inside. `keras.models.load_model` reads it without this repository.
Where the head uses clinical variables (train.clinical), their numbers (batch, numbers) are a second input, `clinical`.
"""

import argparse
import sys

from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.head import load_head, require_same_backbone
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
    from dermoscopy.model.keras_head import to_keras

    head, info = load_head()
    folder = final_backbone()
    require_same_backbone(head, info, read_backbone_info(folder))
    backbone = load_backbone(folder)
    inputs, features = [backbone.inputs[0]], backbone.outputs[0]
    if info.clinical:
        inputs.append(keras.Input((len(info.clinical.names),), name="clinical"))
        features = keras.layers.Concatenate(name="features_and_clinical")([features, inputs[1]])
    classifier = keras.Model(inputs if info.clinical else inputs[0], to_keras(head)(features), name="classifier")
    with replacing(CLASSIFIER) as path:
        classifier.save(path)
    size = backbone.input_shape[1]
    print(
        f"export: {CLASSIFIER} takes RGB images of {size} x {size} pixels, 0 to 255; it gives the probabilities of "
        + ", ".join(info.classes)
    )
    if info.clinical:
        print(f"export: {second_input_in_words(info.clinical)}")


def second_input_in_words(clinical: ClinicalEncoder) -> str:
    """Return what the numbers of the input `clinical` stand for, and those of an image of which nothing is known."""
    meaning = "1 where it is so and 0 where not"
    if clinical.age:
        age = f"(years - {clinical.age.mean:.9g}) / {clinical.age.deviation:.9g}"
        meaning = f"age is {age}, 0 where unknown; others are {meaning}"
    nothing = ", ".join(f"{number:.3g}" for number in clinical.unknown())
    return (
        f"its second input, clinical, takes {len(clinical.names)} numbers: {', '.join(clinical.names)} ({meaning}); "
        f"zeros do not mean unknown: where nothing is known the numbers are {nothing}"
    )


if __name__ == "__main__":
    run_command(main)
