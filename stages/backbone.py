"""Make the frozen backbone ready: build it once with its weights, and convert it for the OpenVINO engine."""

import sys

from dermoscopy.features.backbones import find_weights
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Backbone
from dermoscopy.runtime.paths import BACKBONE


def main(backbone: Backbone) -> None:
    weights = find_weights(backbone.weights)
    if sys.stderr.isatty():
        print(f"backbone: building {backbone.name} and converting it: up to a minute", file=sys.stderr)
    start_keras(backbone.seed)
    from dermoscopy.features.networks import build_from_params, write_backbone

    model = build_from_params(backbone, weights)
    weights_bytes = 4 * model.count_params()
    with replacing(BACKBONE, size=2 * weights_bytes) as folder:  # Keras' form and OpenVINO's
        folder.mkdir()
        info = write_backbone(model, backbone.name, folder)
    print(f"backbone: {info.name}, {backbone.weights} weights, {info.dim} features per image")


if __name__ == "__main__":
    run_stage(main)
