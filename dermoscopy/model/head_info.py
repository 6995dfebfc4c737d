"""models/head.json: what the trained head beside it is."""

from pydantic import BaseModel, ConfigDict

from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.paths import BACKBONE, HEAD


class HeadInfo(BaseModel):
    """The classes by output, and what made the features that the head was trained on: backbone (fingerprint), views."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: list[str]
    backbone: str
    augmentation: Augmentation


def require_same_backbone(head: HeadInfo, backbone: BackboneInfo) -> None:
    """Raise a DataError if the head was trained on the features of another backbone."""
    if head.backbone != backbone.fingerprint:
        raise DataError(f"{HEAD} was trained on another backbone than the one in {BACKBONE}: run dvc repro")
