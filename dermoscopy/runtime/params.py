"""The one schema of params.yaml, and the only reader of it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError

from dermoscopy.runtime.errors import ParamsError, one_line
from dermoscopy.runtime.paths import PARAMS

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(min_length=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
# as labels are read
ClassName = Annotated[str, StringConstraints(strip_whitespace=True, to_lower=True, min_length=1)]


EngineName = Literal["openvino", "tensorflow", "jax", "torch"]
Precision = Literal["float32", "tf32", "bfloat16"]


class Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Columns(Section):
    """The columns of a label table that names them in its own way; None finds them by the usual names."""

    image: Name | None = None
    label: Name | None = None
    lesion: Name | None = None
    patient: Name | None = None
    age: Name | None = None
    sex: Name | None = None
    localization: Name | None = None


class Data(Section):
    """Where the images and their labels come from."""

    source: Literal["kaggle", "directory", "sample"]
    directory: Name | None
    labels: Name | None
    columns: Columns
    sample_images: Annotated[int, Field(ge=100, le=100_000)]
    seed: Seed
    on_bad_image: Literal["fail", "skip"]
    on_unlabelled: Literal["ignore", "fail"]
    lesions: Literal["table", "found"]

    @model_validator(mode="after")
    def _directory_is_named(self) -> "Data":
        if self.source == "directory" and self.directory is None:
            raise ValueError("data.source=directory needs data.directory, the folder of images")
        return self


class Split(Section):
    """Which part each image belongs to; what validation and test leave is for training."""

    group: Literal["auto", "patient", "lesion", "image"]
    validation: Annotated[float, Field(gt=0, lt=1)]
    test: Fraction
    seed: Seed

    @model_validator(mode="after")
    def _training_images_remain(self) -> "Split":
        if self.validation + self.test >= 1:
            raise ValueError(
                f"split.validation = {self.validation} and split.test = {self.test} leave no training images: their "
                "sum must be below 1"
            )
        return self


class Backbone(Section):
    """The frozen network; `weights` is imagenet, random (drawn from `seed`) or the path of a weights file.

    At several sizes, which are in rising order here, the features of an image are those at each of them.
    """

    name: Name
    weights: Name
    image_size: int | list[int]
    seed: Seed

    @field_validator("image_size", mode="before")
    @classmethod
    def _sizes_divide_the_largest(cls, value: Any) -> Any:
        sizes = value if isinstance(value, list) else [value]
        if all(type(size) is int and 32 <= size <= 1024 for size in sizes):
            if not isinstance(value, list):
                return value
            # 32, because every network halves an image five times, and some pad what is odd in a way of their own
            divide = all(size % 32 == 0 and max(sizes) % size == 0 for size in sizes)
            if divide and len(sizes) == len(set(sizes)) > 1:
                return sorted(sizes)
        raise ValueError(
            f"backbone.image_size = {value!r} must be a whole number from 32 to 1024, or a list of several, each once, "
            "that are multiples of 32 and divide the largest, such as [224, 448]"
        )


class Finetune(Section):
    """How the top layers of the backbone are trained; not at all where `epochs` is 0."""

    epochs: Annotated[int, Field(ge=0, le=1000)]
    layers: Annotated[int, Field(ge=1)] | Literal["all"]
    views: Annotated[int, Field(ge=0, le=100)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    dropout: Fraction
    class_weights: Literal["balanced", "none"]
    patience: Annotated[int, Field(ge=1, le=1000)]
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
    """What the backbone is run by, and in which precision; any but float32 needs a GPU."""

    engine: Literal["auto", EngineName]
    precision: Precision


class Train(Section):
    """How the head is trained."""

    dropout: Fraction
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    patience: Annotated[int, Field(ge=1, le=10_000)]
    class_weights: Literal["balanced", "none"]
    clinical: list[Literal["age", "sex", "localization"]] | None
    seed: Seed

    @field_validator("clinical")
    @classmethod
    def _named_once(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(value) != len(set(value)):
            raise ValueError(f"train.clinical = {value} names one twice: name each once")
        return value


class Evaluate(Section):
    """Which predictions are scored, of the image itself or (tta) the mean over all its views, and how.

    `prior_exponent` decides the class: that of the largest probability / (share of the training images)**exponent.
    `malignant` names what screening must find, or is None: as `dermoscopy.data.diagnoses` knows it.
    """

    tta: bool
    prior_exponent: Annotated[float, Field(ge=-2, le=2)]
    calibrate: bool
    malignant: list[ClassName] | None
    seed: Seed

    @field_validator("malignant", mode="before")
    @classmethod
    def _names_are_text(cls, value: Any) -> Any:
        if value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value)):
            return value
        names = [str(name) for name in (value if isinstance(value, list) else [value]) if name != ""]
        raise ValueError(
            f"evaluate.malignant = {value!r} is neither null nor a list of names, each of them text: write "
            f'evaluate.malignant: {names} in params.yaml, or -S "evaluate.malignant={names}"'
        )


class Report(Section):
    """What the page shows: `gallery` images of each class that were right, and as many that were wrong."""

    gallery: Annotated[int, Field(ge=0, le=6)]


class Params(Section):
    data: Data
    split: Split
    backbone: Backbone
    finetune: Finetune
    augmentation: Augmentation
    features: Features
    train: Train
    evaluate: Evaluate
    report: Report


def load_params(path: Path = PARAMS, changes: Sequence[str] = ()) -> Params:
    """Return the validated params, read as DVC reads them: YAML 1.2, by the same library.

    Args:
        path: of the file, which is not changed.
        changes: `section.key=value`, as `dvc exp run -S` takes them and by the same code.

    Raises:
        ParamsError: the file is missing or is not YAML, a change is of another form, or a key is unknown, missing, of
            the wrong type or out of range; the message names each such key, its value and what it must be.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = YAML(typ="safe", pure=True).load(_changed(text, changes) if changes else text)
    except FileNotFoundError:
        raise ParamsError(f"{path} is not in {Path.cwd()}: run from the top folder of the project") from None
    except MarkedYAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ParamsError(f"{path}{place} cannot be read as YAML: {error.problem}") from None
    except RecursionError:
        raise ParamsError(f"{path} cannot be read as YAML: it is nested too deeply") from None
    except (OSError, ValueError, YAMLError) as error:  # ValueError: not UTF-8, or a date such as 2026-02-30
        raise ParamsError(f"{path} cannot be read as YAML: {error}") from None
    try:
        return Params.model_validate(content if content is not None else {})
    except ValidationError as error:
        raise ParamsError(f"{path}: " + "; ".join(map(_describe, error.errors(include_url=False)))) from None


def _changed(text: str, changes: Sequence[str]) -> str:
    """Return params as text, with some changed by DVC."""
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    with TemporaryDirectory() as folder:
        copy = Path(folder) / PARAMS
        copy.write_text(text, encoding="utf-8")
        try:
            apply_overrides(copy, list(changes))
        except (DvcException, HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
            reason = one_line(str(error.__cause__ or error))
            raise ParamsError(f"{' '.join(changes)}: no change of params, as section.key=value: {reason}") from None
        return copy.read_text(encoding="utf-8")


def _describe(error: Any) -> str:
    """Return one clause for one pydantic error: the key, its value, and pydantic's own words."""
    key = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden" | "invalid_key":
            return f"{key} is not a known key: the keys here are {_keys(error['loc'][:-1])}"
        case "model_type":
            return f"{key or 'the file'} must have the keys {_keys(error['loc'])}"
        case "value_error":
            return str(error["ctx"]["error"])
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{key} = {error['input']!r}: {message}" if key else message


def _keys(section: tuple[str, ...]) -> str:
    """Return the keys of a section of the params, or of one in it, or where there is none of the whole file."""
    schema: Any = Params
    for name in section:
        schema = schema.model_fields[name].annotation
    return ", ".join(schema.model_fields)
