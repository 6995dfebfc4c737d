"""The one schema of params.yaml, and the only reader of it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stages.common.errors import ParamsError

PARAMS_FILE = Path("params.yaml")


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=3600)]


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as the number it is in YAML 1.2, and so to DVC; PyYAML's YAML 1.1 would see text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Data(Section):
    """Where the images and their labels come from.

    Of a download that fails for a passing reason: `retries`, how often at most it is tried again; `retry_wait`, before
    the first retry, doubled each time; `longest_wait`, the upper limit of a wait, also of one that the server asks
    for; `silence`, without a byte before a connection is given up.
    """

    source: Literal["kaggle", "directory", "sample"]
    keep_archive: bool
    retries: Annotated[int, Field(ge=0, le=100)]
    retry_wait: Seconds
    longest_wait: Seconds
    silence: Annotated[float, Field(ge=1, le=3600)]
    directory: Annotated[str, Field(min_length=1)] | None
    labels: Annotated[str, Field(min_length=1)] | None
    sample_images: Annotated[int, Field(ge=100, le=100_000)]
    seed: Seed
    on_bad_image: Literal["fail", "skip"]

    @model_validator(mode="after")
    def _directory_is_named(self) -> "Data":
        if self.source == "directory" and self.directory is None:
            raise ValueError("data.source=directory needs data.directory, the folder of images")
        return self


class Split(Section):
    """Which part each image belongs to; what validation and test leave is for training."""

    group: Literal["lesion", "image"]
    validation: Annotated[float, Field(gt=0, lt=1)]
    test: Fraction
    seed: Seed

    @model_validator(mode="after")
    def _training_images_remain(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation = {self.validation} and split.test = {self.test} leave no training images: allowed "
                "is a sum below 1"
            )
        return self


class Backbone(Section):
    """The frozen network; `weights` is imagenet, random (drawn from `seed`) or the path of a weights file."""

    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    seed: Seed


class Augmentation(Section):
    """What the views of an image look like; rotation and zoom as in Keras' RandomRotation and RandomZoom."""

    views: Annotated[int, Field(ge=0, le=100)]
    horizontal_flip: bool
    vertical_flip: bool
    rotation: Annotated[float, Field(ge=0, le=0.5)]
    zoom: Fraction
    seed: Seed


class Features(Section):
    """How the backbone is run."""

    engine: Literal["auto", "openvino", "tensorflow"]


class Train(Section):
    """How the head is trained."""

    dropout: Fraction
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    patience: Annotated[int, Field(ge=1, le=10_000)]
    class_weights: Literal["balanced", "none"]
    seed: Seed


class Evaluate(Section):
    """Which predictions are scored, of the image itself or (tta) the mean over all its views, and how."""

    tta: bool
    calibrate: bool
    malignant: list[Annotated[str, Field(min_length=1)]]
    seed: Seed


class Report(Section):
    """What the page shows: `gallery` images of each class that were right, and as many that were wrong."""

    gallery: Annotated[int, Field(ge=0, le=6)]


class Params(Section):
    data: Data
    split: Split
    backbone: Backbone
    augmentation: Augmentation
    features: Features
    train: Train
    evaluate: Evaluate
    report: Report


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Return the validated params.

    Raises:
        ParamsError: the file is missing or no YAML, or a key is unknown, missing, of the wrong type or out of
            range; the message names each such key, its value and what is allowed.
    """
    try:
        content = _Loader(path.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise ParamsError(f"{path} is not in {Path.cwd()}: run from the top folder of the project") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date such as 2026-02-30
        raise ParamsError(f"{path} cannot be read as YAML: {error}") from None
    try:
        return Params.model_validate(content if content is not None else {})
    except ValidationError as error:
        raise ParamsError(f"{path}: " + "; ".join(_describe(e) for e in error.errors(include_url=False))) from None


def require_unchanged(*sections: Section) -> None:
    """Raise a ParamsError if params.yaml no longer says what `sections` say: call it at the end of a stage.

    DVC records the values that stand in the file when a stage ends, and would take outputs of the old ones for
    outputs of the new ones.
    """
    now = load_params()
    for section in sections:
        name = type(section).__name__.lower()
        for key, value in section:
            if getattr(getattr(now, name), key) != value:
                raise ParamsError(f"{PARAMS_FILE}: {name}.{key} was changed while the stage ran: run dvc repro again")


def _describe(error: Any) -> str:
    """One clause for one pydantic error: key, value, what is allowed."""
    loc = [str(part) for part in error["loc"]]
    key = ".".join(loc[:2])
    if error["type"] == "missing":
        return f"{key} is missing: allowed is {_allowed(loc)}"
    if error["type"] in ("extra_forbidden", "invalid_key"):
        section = loc[0] if len(loc) > 1 else None
        return f"{key} = {error['input']!r} is not a known key: allowed here are {', '.join(_keys(section))}"
    if error["type"] == "value_error" and len(loc) < 2:
        return str(error["ctx"]["error"])
    return f"{key} = {error['input']!r} is refused: allowed is {_allowed(loc)}"


def _keys(section: str | None) -> list[str]:
    schema = Params.model_json_schema()
    return list((schema if section is None else schema["$defs"][section.capitalize()])["properties"])


def _allowed(loc: list[str]) -> str:
    """Say in words what the schema allows at a key, from its JSON schema."""
    if len(loc) < 2:
        return "a mapping with the keys " + ", ".join(_keys(loc[0] if loc else None))
    field = Params.model_json_schema()["$defs"][loc[0].capitalize()]["properties"][loc[1]]
    if "enum" in field:
        return " | ".join(field["enum"])
    types = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "text",
        "array": "a list of texts",
    }
    if "anyOf" in field:
        return " or ".join(types.get(option["type"], option["type"]) for option in field["anyOf"])
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[name]}" for name, sign in bounds.items() if name in field]
    return " ".join([types[field["type"]], " and ".join(limits)]).strip()
