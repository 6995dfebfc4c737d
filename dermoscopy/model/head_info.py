"""models/head.json: what the trained head beside it is."""

from pathlib import Path
from textwrap import shorten

from pydantic import BaseModel, ConfigDict

from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.paths import HEAD_INFO


class HeadInfo(BaseModel):
    """The classes by output, and what the head was trained on.

    Attributes:
        classes: in the order of the outputs.
        prior: the share of each class among the training images.
        class_weights: how much an image of each class counted.
        backbone: the fingerprint of the one that made the features.
        augmentation: what their views look like.
        clinical: how clinical variables become numbers behind the features; None where there are none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: list[str]
    prior: list[float]
    class_weights: list[float]
    backbone: str
    augmentation: Augmentation
    clinical: ClinicalEncoder | None = None


def read_head_info(path: Path = HEAD_INFO) -> HeadInfo:
    """Return what is said of the trained head; a DataError if there is none or it cannot be read."""
    try:
        return HeadInfo.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise no_head(path, error) from None


def no_head(path: Path, reason: Exception | str) -> DataError:
    """Return the error of a head that cannot be read."""
    said = shorten(str(reason), 200, placeholder=" ...")
    return DataError(f"no trained head can be read from {path} ({said}): run dvc repro train")
