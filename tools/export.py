"""Join backbone and head into one file that needs nothing of this project, models/classifier.keras.

RGB images (batch, height, width, 3) of any size, 0 to 255, go in, class probabilities (batch, classes) come out, as
tools.predict --no-tta gives them; resizing, preprocessing, backbone and head are inside. Where the head uses clinical
variables (train.clinical), their numbers (batch, numbers) are a second input, `clinical`. The file describes itself in
about.json, see docs/exported_model.md.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dermoscopy import VERSION
from dermoscopy.data.datasets import ISIC_2018
from dermoscopy.data.diagnoses import malignant_classes
from dermoscopy.data.tables import read_json, read_table
from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.decision import adjust
from dermoscopy.model.head import load_head, require_same_backbone
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.model.members import LoadedHead, Member, warp_of
from dermoscopy.page.facts import data_version
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import PipelineError, enumerated, one_line
from dermoscopy.runtime.files import user_output
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import CLASSIFIER, MANIFEST, METRICS, STATISTICS
from dermoscopy.scoring.metrics import read_metrics

FORMATS = ("keras", "onnx", "tflite")
USE = "For research and teaching only. This is not a medical device; do not use it to diagnose anybody."


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.export", description=__doc__)
    parser.add_argument("--format", choices=FORMATS, help="default: as FILE ends, else keras")
    parser.add_argument(
        "--tta", action="store_true", help="the mean over the views of an image, as tools.predict --tta gives it"
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help=f"default: {CLASSIFIER}, or what it is")
    arguments = parser.parse_args()
    form, file = form_and_file(arguments.format, arguments.file)
    if form == "onnx" and not (find_spec("onnx") and find_spec("tf2onnx")):
        raise PipelineError("an export as ONNX needs the packages onnx and tf2onnx: run make onnx")

    params = load_params()
    head, info = load_head()
    folder = final_backbone()
    backbone = read_backbone_info(folder)
    require_same_backbone(head, info, backbone)
    views = LoadedHead(head, info, Member()).views(arguments.tta)
    about = describe(info, backbone, params, len(views))
    with user_output(file) as path:
        print("export: joining backbone and head takes some ten seconds", file=sys.stderr)
        start_keras(seed=0)
        from dermoscopy.features.networks import load_backbone
        from dermoscopy.model.exported import build_exported
        from dermoscopy.model.exported_files import write_keras, write_onnx, write_tflite

        model = build_exported(load_backbone(folder), head, [warp_of(view) for view in views])
        {"keras": write_keras, "onnx": write_onnx, "tflite": write_tflite}[form](model, about, path)
    mean = f"the mean over {len(views)} views of " if len(views) > 1 else ""
    print(
        one_line(
            f"export: {file} takes RGB images of any size, 0 to 255; it gives {mean}the probabilities of "
            f"{enumerated(info.classes)}"
        )
    )
    if info.clinical:
        print(one_line(f"export: {second_input_in_words(info.clinical)}"))


def form_and_file(form: str | None, file: Path | None) -> tuple[str, Path]:
    """Return the format and the path of the file, from what the user has said of them; they must agree."""
    if form is None:
        form = file.suffix[1:] if file and file.suffix[1:] in FORMATS else "keras"
    file = file or CLASSIFIER.with_suffix(f".{form}")
    if file.suffix != f".{form}":
        raise PipelineError(f"{file}: the name of a file for {form} must end with .{form}")
    return form, file


def describe(info: HeadInfo, backbone: BackboneInfo, params: Params, views: int) -> dict[str, Any]:
    """Return what about.json says of the model; what is not known in this project is None.

    Args:
        info: of the head.
        backbone: that it was trained on.
        params: of the project.
        views: how many the model averages.
    """
    malignant, unknown = malignant_classes(info.classes, params.evaluate.malignant)
    exponent = params.evaluate.prior_exponent
    dataset = read_json(STATISTICS).get("dataset") if STATISTICS.exists() else None
    return {
        "use": USE,
        "licence": licence(dataset, drawn=params.data.source == "sample"),
        "classes": info.classes,
        "prior": info.prior,
        "prior_exponent": exponent,
        "factors": adjust(np.ones((1, len(info.classes))), info.prior, exponent)[0].tolist(),
        "calibration": calibration(info.classes),
        "malignant": None if unknown else malignant,
        "views": views,
        "image": "RGB, 0 to 255, (batch, height, width, 3), of any height and width",
        "clinical": describe_clinical(info.clinical) if info.clinical else None,
        "backbone": backbone.model_dump(include={"name", "image_size", "fingerprint"}),
        "data": {"name": dataset, "version": data_version(read_table(MANIFEST)) if MANIFEST.exists() else None},
        "project": {"name": "dermoscopy-pipeline", "version": VERSION},
    }


def licence(dataset: str | None, drawn: bool) -> str:
    """Return what is to be said of the licence of weights that were learnt from a dataset, or from drawn images."""
    if dataset:
        others = " and others of ISIC 2018 (Codella and others, arXiv:1902.03368)" if dataset == ISIC_2018 else ""
        return (
            "CC BY-NC 4.0, as the training images: HAM10000 (Tschandl, Rosendahl and Kittler, Scientific Data "
            f"5:180161, 2018){others}"
        )
    return "MIT: learnt from drawn images" if drawn else "that of the training images, which are a folder of its user"


def calibration(classes: list[str]) -> dict[str, Any] | None:
    """Return temperature and biases, in the order of the classes, that the last run was calibrated with, if it was."""
    if not METRICS.exists():
        return None
    scores = list(read_metrics().values())[-1]
    if scores.temperature is None or scores.biases is None:
        return None
    return {"temperature": scores.temperature, "biases": [scores.biases[name] for name in classes]}


def describe_clinical(encoder: ClinicalEncoder) -> dict[str, Any]:
    """Return what the numbers of the input `clinical` stand for, and those of an image of which nothing is known."""
    return {
        "names": encoder.names,
        "age": encoder.age and {"mean": encoder.age.mean, "deviation": encoder.age.deviation},
        "unknown": encoder.unknown().tolist(),
    }


def second_input_in_words(clinical: ClinicalEncoder) -> str:
    """Return the same as a sentence."""
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
