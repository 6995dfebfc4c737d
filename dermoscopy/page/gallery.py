"""The most confident mistakes and right answers of each class, as pictures for a page."""

import base64
import os
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.images import read_image
from dermoscopy.data.storage import is_there
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.activation_maps import LastMaps
from dermoscopy.model.head import load_head, require_same_backbone, softmax
from dermoscopy.runtime.errors import StorageError
from dermoscopy.runtime.progress import progress, tick
from dermoscopy.scoring.predictions import class_names, probabilities_of

SIDE = 176  # pixels of a picture: some 5 kB as WebP


@dataclass(frozen=True)
class Example:
    """One image of the gallery.

    Attributes:
        image_id: which image.
        label: its class.
        predicted: the class it was taken for.
        probability: of the predicted class, as scored.
        probability_alone: of the predicted class, from the image without its other views.
        image: the image as the head saw it, a data URI.
        overlay: the same with the class activation map of the predicted class, a data URI.
    """

    image_id: str
    label: str
    predicted: str
    probability: float
    probability_alone: float
    image: str
    overlay: str

    @property
    def right(self) -> bool:
        """Whether the image was taken for what it is."""
        return self.label == self.predicted


def choose_examples(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return `image_id, label, predicted, probability` of the most confident images: for each class up to `count`
    that were right and `count` that were wrong, in the order of class, right first, falling probability."""
    chosen = predictions[["image_id", "label", "predicted"]].copy()
    places = pd.Index(class_names(predictions)).get_indexer(pd.Index(predictions["predicted"]))
    chosen["probability"] = probabilities_of(predictions)[np.arange(len(places)), places]
    chosen["wrong"] = chosen["label"] != chosen["predicted"]
    chosen = chosen.sort_values(["label", "wrong", "probability", "image_id"], ascending=[True, True, False, True])
    return chosen.groupby(["label", "wrong"]).head(count).drop(columns="wrong")


def without_missing(chosen: pd.DataFrame, manifest: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the chosen images whose files are here, and the others, with `path`: a project may move without them."""
    path = chosen["image_id"].map(manifest.set_index("image_id")["path"])
    missing = pd.Series(are_missing(path.tolist()), path.index, dtype=bool)
    return chosen[~missing], chosen[missing].assign(path=path[missing])


def left_out(chosen: pd.DataFrame, missing: pd.DataFrame) -> str:
    """Return a sentence on the chosen images whose files are missing, or "" where none is."""
    if missing.empty:
        return ""
    return (
        f"{len(missing)} of {len(chosen)} images are not shown: their files are not here, such as "
        f"{missing['path'].iloc[0]}"
    )


def are_missing(paths: Sequence[str]) -> list[bool]:
    """Return which files are not there: all, where their storage cannot be read.

    One that is there and cannot be read is an error of its own.
    """
    try:
        return [not is_there(path) for path in paths]
    except StorageError:
        return [True] * len(paths)


def draw_examples(chosen: pd.DataFrame, manifest: pd.DataFrame) -> list[Example]:
    """Return the chosen images with their pictures; each is run through the backbone once more.

    Raises:
        BackboneError, DataError: backbone, head or an image cannot be read, or they do not belong together.
    """
    if chosen.empty:
        return []
    folder = final_backbone()
    backbone = read_backbone_info(folder)
    head, info = load_head()
    require_same_backbone(head, info, backbone)
    last_maps = LastMaps(folder)
    images = chosen.merge(manifest.drop(columns="label", errors="ignore"), on="image_id")
    rows = images.to_dict("records")
    shifts = head.shift(info.clinical.encode(images)) if info.clinical else np.zeros((len(rows), len(info.classes)))

    def draw(row: dict[Hashable, Any], shift: NDArray[np.float64]) -> Example:
        pixels = render_views(read_image(row["path"], row["sha256"]), [Warp()], backbone.side)[0]
        maps = head.activation_maps(last_maps.maps(pixels))
        predicted = info.classes.index(row["predicted"])
        picture = np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        return Example(
            image_id=row["image_id"],
            label=row["label"],
            predicted=row["predicted"],
            probability=float(row["probability"]),
            probability_alone=float(softmax(maps.mean(axis=(0, 1)) + shift + head.bias)[predicted]),
            image=data_uri(picture),
            overlay=data_uri(overlay(picture, maps[:, :, predicted])),
        )

    with progress("gallery", len(rows), in_logs=False) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tick(pool.map(draw, rows, shifts), bar))


def overlay(picture: NDArray[np.uint8], activation_map: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a picture, (side, side, 3), in grey under a class activation map, (rows, columns), in viridis.

    The colours, which the colour-blind tell apart too, go from nothing or less (dark blue) to the largest value of the
    map (yellow).
    """
    side = picture.shape[0]
    heat = cv2.resize(activation_map.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    scaled = np.clip(255 * heat / max(float(activation_map.max()), 1e-9), 0, 255).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(grey, 0.5, colours, 0.5, 0).astype(np.uint8)


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Return an RGB picture as WebP inside a data URI."""
    _, content = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 75])
    return "data:image/webp;base64," + base64.b64encode(content.tobytes()).decode()
