"""The most confident mistakes and right answers of each class and the least certain images, as pictures for a page."""

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

from dermoscopy.data.images import read_image, shrink
from dermoscopy.data.storage import is_there
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.store import FeatureReader
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.activation_maps import LastMaps, heat
from dermoscopy.model.head import Head, load_head, require_same_backbone, softmax
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.model.similar import TrainingImages
from dermoscopy.runtime.errors import StorageError
from dermoscopy.runtime.progress import progress, tick
from dermoscopy.scoring.predictions import class_names, probabilities_of

RANKED = 3  # how many of an image's probabilities are shown
SIDE = 480  # pixels of the longer side of an enlarged picture: some 15 kB as WebP
SMALL = 72  # of a similar image: some 1 kB


@dataclass(frozen=True)
class Neighbour:
    """A training image that is similar to one of the gallery; its `picture` is None where its file is not here."""

    image_id: str
    label: str
    cosine: float
    picture: str | None


@dataclass(frozen=True)
class Example:
    """One image of the gallery.

    Attributes:
        kind: right | wrong | uncertain: why it is here.
        image_id: which image.
        label: its class.
        predicted: the class it was taken for.
        probability: of the predicted class, as scored.
        probability_alone: of the predicted class, from the image without its other views.
        ranking: the classes of the highest probabilities, as scored, with them.
        width, height: of both pictures, in the proportions of the file.
        image: the image, a data URI.
        overlay: the same under the class activation map of the predicted class, a data URI.
        similar: of one that was wrong, the most similar training images.
    """

    kind: str
    image_id: str
    label: str
    predicted: str
    probability: float
    probability_alone: float
    ranking: list[tuple[str, float]]
    width: int
    height: int
    image: str
    overlay: str
    similar: list[Neighbour]

    @property
    def right(self) -> bool:
        """Whether the image was taken for what it is."""
        return self.label == self.predicted


def choose_examples(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the images to show: `kind, image_id, label, predicted, probability, ranking`, see `Example`.

    For each class up to `count` that were right and `count` that were wrong, those of the highest probability, in the
    order of class, right first, falling probability; then the `count` least certain of all, whose two highest
    probabilities differ least.
    """
    classes, probabilities = class_names(predictions), probabilities_of(predictions)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :RANKED]
    chosen = predictions[["image_id", "label", "predicted"]].copy()
    highest = np.take_along_axis(probabilities, order, axis=1)
    places = pd.Index(classes).get_indexer(pd.Index(predictions["predicted"]))
    chosen["probability"] = probabilities[np.arange(len(places)), places]
    names = np.array(classes)[order]
    chosen["ranking"] = pd.Series(
        [list(zip(*pair, strict=True)) for pair in zip(names.tolist(), highest.tolist(), strict=True)],
        chosen.index,
        dtype=object,
    )
    chosen["margin"] = highest[:, 0] - highest[:, 1]
    chosen["kind"] = np.where(chosen["label"] == chosen["predicted"], "right", "wrong")
    confident = chosen.sort_values(["label", "kind", "probability", "image_id"], ascending=[True, True, False, True])
    uncertain = chosen.sort_values(["margin", "image_id"]).head(count).assign(kind="uncertain")
    chosen = pd.concat([confident.groupby(["label", "kind"]).head(count), uncertain], ignore_index=True)
    return chosen.drop(columns="margin")


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
        f"{missing['image_id'].nunique()} of {chosen['image_id'].nunique()} images are not shown: their files are not "
        f"here, such as {missing['path'].iloc[0]}"
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
    similar = find_similar(head, info, images)

    def draw(row: dict[Hashable, Any], shift: NDArray[np.float64]) -> Example:
        whole = read_image(row["path"], row["sha256"])
        maps = head.activation_maps(last_maps.maps(render_views(whole, [Warp()], backbone.side)[0]))
        predicted = info.classes.index(row["predicted"])
        picture = shrink(whole, SIDE)
        height, width = picture.shape[:2]
        return Example(
            kind=row["kind"],
            image_id=row["image_id"],
            label=row["label"],
            predicted=row["predicted"],
            probability=float(row["probability"]),
            probability_alone=float(softmax(maps.mean(axis=(0, 1)) + shift + head.bias)[predicted]),
            ranking=row["ranking"],
            width=width,
            height=height,
            image=data_uri(picture),
            overlay=data_uri(overlay(picture, maps[:, :, predicted])),
            similar=similar.get(row["image_id"], []),
        )

    with progress("gallery", len(rows), in_logs=False) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(tick(pool.map(draw, rows, shifts), bar))


def find_similar(head: Head, info: HeadInfo, images: pd.DataFrame) -> dict[str, list[Neighbour]]:
    """Return the most similar training images of each chosen image that was wrong, by its id; {} where none was."""
    wrong = images.loc[images["label"] != images["predicted"], "image_id"].unique().tolist()
    if not wrong:
        return {}
    features = FeatureReader(views=0)
    found = TrainingImages.read(head, info, features).most_similar(features.view(0, features.rows(wrong)))
    files = {image.path: image.sha256 for of_one in found for image in of_one}
    here = [path for path, missing in zip(files, are_missing(list(files)), strict=True) if not missing]

    def draw(path: str) -> str:
        return data_uri(shrink(read_image(path, files[path]), SMALL))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = dict(zip(here, pool.map(draw, here), strict=True))
    return {
        image_id: [Neighbour(image.image_id, image.label, image.cosine, pictures.get(image.path)) for image in of_one]
        for image_id, of_one in zip(wrong, found, strict=True)
    }


def overlay(picture: NDArray[np.uint8], activation_map: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return a picture, (height, width, 3), in grey under a class activation map, (rows, columns), in viridis.

    The map is of the image squeezed to a square, and is stretched as the picture is.
    """
    colours = heat(activation_map, *picture.shape[:2])
    grey = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(grey, 0.5, colours, 0.5, 0).astype(np.uint8)


def data_uri(picture: NDArray[np.uint8]) -> str:
    """Return an RGB picture as WebP inside a data URI."""
    _, content = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 75])
    return "data:image/webp;base64," + base64.b64encode(content.tobytes()).decode()
