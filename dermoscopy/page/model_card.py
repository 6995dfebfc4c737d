"""What only the model card has: its metadata, as Hugging Face defines them, and how to use the exported model."""

from typing import Any

import yaml
from markupsafe import Markup

from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.runtime.params import Params
from dermoscopy.scoring.metrics import Metrics

# The README has the same lines.
HOW_TO_USE = """import json, zipfile
import keras
import numpy as np
from PIL import Image

about = json.loads(zipfile.ZipFile("models/classifier.keras").read("about.json"))
model = keras.saving.load_model("models/classifier.keras")
image = np.asarray(Image.open("photo.jpg").convert("RGB"))
probabilities = model.predict(image[None])[0]
chosen = (probabilities * about["factors"]).argmax()
print(about["classes"][chosen], dict(zip(about["classes"], probabilities.round(3))))
"""
PREDICT = "probabilities = model.predict(image[None])[0]\n"
PREDICT_WITH_CLINICAL = """numbers = np.array(about["clinical"]["unknown"], "float32")  # nothing is known
probabilities = model.predict({"image": image[None], "clinical": numbers[None]})[0]
"""

# Metrics by the names that https://hf.co/metrics has, of which balanced accuracy is the mean recall.
RESULTS: dict[str, dict[str, Any]] = {
    "balanced_accuracy": {"type": "recall", "name": "Balanced accuracy", "args": {"average": "macro"}},
    "accuracy": {"type": "accuracy", "name": "Accuracy"},
    "macro_f1": {"type": "f1", "name": "Macro F1", "args": {"average": "macro"}},
    "weighted_f1": {"type": "f1", "name": "Weighted F1", "args": {"average": "weighted"}},
    "macro_auc": {"type": "roc_auc", "name": "Macro AUC", "args": {"average": "macro", "multi_class": "ovr"}},
}
SCREENING = {"type": "roc_auc", "name": "AUC, malignant against benign"}


def describe_card(contents: dict[str, Any]) -> dict[str, Any]:
    """Return what the card's template needs beside the contents of the page: `metadata` and `how_to_use`."""
    part, params = contents["part"], Params.model_validate(contents["params"])
    metadata = card_metadata(
        contents["backbone"],
        contents["statistics"]["dataset"],
        params.data.source == "sample",
        part,
        contents["metrics"][part],
        contents["version"],
    )
    return {
        # our own words and numbers, in YAML and Python: escaped for Markdown they would be others
        "metadata": Markup(yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)),  # noqa: S704
        "how_to_use": Markup(how_to_use(clinical=bool(contents["clinical"]))),  # noqa: S704
    }


def how_to_use(clinical: bool) -> str:
    """Return the lines of Python that load the exported file and predict; `clinical`: it has a second input."""
    return HOW_TO_USE.replace(PREDICT, PREDICT_WITH_CLINICAL) if clinical else HOW_TO_USE


def card_metadata(
    backbone: BackboneInfo, dataset: str | None, drawn: bool, part: str, shown: Metrics, version: str
) -> dict[str, Any]:
    """Return the metadata of https://github.com/huggingface/hub-docs/blob/main/modelcard.md.

    No name of a class or a file is in them.

    Args:
        backbone: what the model is made from.
        dataset: the public data set of the images; None where they are of no such.
        drawn: whether a program drew them.
        part: the part to judge by.
        shown: its metrics.
        version: that of the data.
    """
    name = dataset or ("images drawn by a program" if drawn else "a folder of labelled images")
    identifier = "-".join(dataset.split()) if dataset else "imagefolder"
    values = {key: getattr(shown, key) for key in RESULTS}
    metrics = [{**RESULTS[key], "value": round(value, 4)} for key, value in values.items() if value is not None]
    if shown.screening:
        metrics.append({**SCREENING, "value": round(shown.screening.auc, 4)})
    result = {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": identifier, "name": name, "split": part, "revision": version[:16]},
        "metrics": metrics,
    }
    return {
        # HAM10000 and ISIC 2018 are CC BY-NC 4.0; those of a folder are not known here
        "license": "cc-by-nc-4.0" if dataset else "mit" if drawn else "unknown",
        "library_name": "keras",
        "pipeline_tag": "image-classification",
        "tags": ["dermoscopy", "skin-lesion", "medical-imaging", "research-only", backbone.name.lower()],
        **({"datasets": [identifier]} if dataset else {}),
        "metrics": list(dict.fromkeys(metric["type"] for metric in metrics)),
        "model-index": [{"name": f"{backbone.name} on {name}", "results": [result]}],
    }
