"""What a classifier is made of, loaded: one trained head and its backbone, or several."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.engines.choice import Engine, load_engine
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.views import Warp, draw_warp, render_views
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.head import Head, load_head, require_same_backbone
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.runtime.errors import DataError, PipelineError, first_few
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.paths import HEAD, HEAD_INFO

View = tuple[Augmentation | None, int]  # what draws it, and its number
ALONE: View = (None, 0)  # the image itself, which nothing draws


def warp_of(view: View) -> Warp:
    """Return what a view does to a new image: the same to all of them, so that an exported model can do it too."""
    drawn, number = view
    return draw_warp(drawn, "", number) if drawn else Warp()


@dataclass(frozen=True)
class Member:
    """Where a trained head is, and the backbone that makes its features.

    Attributes:
        prior_exponent: which class the head decides for, see `adjust`.
        name: for messages; None for the model of the current folder, where there is no other.
        head: the project that has models/head.npz and models/head.json.
        backbone: the project that has the backbone, see `final_backbone`.
        tta: whether its report scores the mean over views, instead of the image alone.
    """

    prior_exponent: float = 0
    name: str | None = None
    head: Path = Path()
    backbone: Path = Path()
    tta: bool = True


@dataclass(frozen=True)
class LoadedHead:
    """A head that is ready to predict."""

    head: Head
    info: HeadInfo
    member: Member

    def views(self, tta: bool | None) -> list[View]:
        """Return the views that are averaged, or the image alone; for None those that the report of the head scores."""
        # how many views there are does not change what one shows
        augmentation = self.info.augmentation.model_copy(update={"views": 0})
        drawn = range(1, self.info.augmentation.views + 1) if (self.member.tta if tta is None else tta) else []
        return [ALONE, *((augmentation, view) for view in drawn)]

    def predict(
        self, features: dict[View, NDArray[np.float32]], known: pd.DataFrame, tta: bool | None
    ) -> NDArray[np.float32]:
        """Return class probabilities, (n, classes), the mean over the views.

        Args:
            features: (n, dim) of each view.
            known: the clinical variables that are known, a row an image.
            tta: see `views`.
        """
        of_views = np.stack([features[view] for view in self.views(tta)], axis=1)
        numbers = (self.info.clinical or ClinicalEncoder()).encode(known)
        behind = np.repeat(numbers[:, None], of_views.shape[1], axis=1)
        rows = np.concatenate([of_views, behind], axis=2)
        return self.head.probabilities(rows).mean(axis=1)


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone that is ready to compute features, and the heads on it."""

    engine: Engine
    size: int
    heads: list[LoadedHead]

    def views(self, tta: bool | None) -> list[View]:
        """Return the views that the heads need, each once."""
        return list(dict.fromkeys(chain.from_iterable(head.views(tta) for head in self.heads)))

    def render(self, pixels: NDArray[np.uint8], tta: bool | None) -> NDArray[np.uint8]:
        """Return these views of an image, (views, size, size, 3), from its pixels."""
        return render_views(pixels, [warp_of(view) for view in self.views(tta)], self.size)

    def features(
        self, images: Iterator[NDArray[np.uint8]], count: int, tta: bool | None
    ) -> dict[View, NDArray[np.float32]]:
        """Return the features, (count, dim), of each view, from what `render` made of `count` images."""
        views = self.views(tta)
        features = self.engine.compute(chain.from_iterable(images), count * len(views))
        return {view: features[place :: len(views)] for place, view in enumerate(views)}


def load_members(members: Sequence[Member]) -> list[LoadedBackbone]:
    """Load the backbones, each once, and the heads on them.

    Raises:
        PipelineError: something is missing or cannot be read, a head was trained on another backbone, or heads know
            different classes; it names the member.
    """
    backbones: dict[str, tuple[Member, Path, int]] = {}  # with the first member on each and its side, by fingerprint
    heads: dict[str, list[LoadedHead]] = {}
    for member in members:
        with named(member.name, member.head, member.backbone):
            folder = final_backbone(member.backbone)
            backbone = read_backbone_info(folder)
            head, info = load_head(member.head / HEAD, member.head / HEAD_INFO)
            require_same_backbone(head, info, backbone)
        backbones.setdefault(backbone.fingerprint, (member, folder, backbone.side))
        heads.setdefault(backbone.fingerprint, []).append(LoadedHead(head, info, member))
        first = next(iter(heads.values()))[0]
        require_same_classes(first.member.name, first.info, member.name, info)

    loaded = []
    for fingerprint, (member, folder, side) in backbones.items():
        with named(member.name, member.backbone):
            loaded.append(LoadedBackbone(load_engine("openvino", folder), side, heads[fingerprint]))
    return loaded


@contextmanager
def named(name: str | None, *projects: Path) -> Iterator[None]:
    """Let errors name a model, and not the temporary folders that its files are in; without a name they stay."""
    try:
        yield
    except PipelineError as error:
        if name is None:
            raise
        message = str(error)
        for project in projects:
            if project != Path():
                message = message.replace(f"{project}/", "")
        raise type(error)(f"{name}: {message}") from None


def require_same_classes(first: str | None, ours: HeadInfo, other: str | None, theirs: HeadInfo) -> None:
    """Raise a DataError unless two heads know the same classes."""
    if ours.classes == theirs.classes:
        return
    only = {first: set(ours.classes) - set(theirs.classes), other: set(theirs.classes) - set(ours.classes)}
    differ = "; ".join(f"only {name} has {first_few(sorted(names))}" for name, names in only.items() if names)
    raise DataError(
        f"{first} and {other} know different classes ({differ}): name models that were trained with the same classes"
    )
