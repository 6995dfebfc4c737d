"""Made-up inputs in the form of the data contracts: label tables, image files, features."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.features.store import FeaturesInfo, npy_header, sealed, view_file
from dermoscopy.runtime.params import Augmentation

BLOCK = 4096  # images whose features are in memory at a time
FACTORS = 200


def write_images(raw: Path, labels: pd.DataFrame, width: int, height: int, drawn: int = 1_000) -> None:
    """Write a data/raw with the label table `labels`, which has `image_id`, and a JPEG of noise for each image.

    Only `drawn` pictures are encoded, however many images there are; a comment with a number makes each file unique.
    """
    random = np.random.default_rng(0)
    pictures = []
    for _ in range(min(drawn, len(labels))):
        coarse = random.integers(0, 256, (6, 8, 3), np.uint8)
        _, jpeg = cv2.imencode(".jpg", cv2.resize(coarse, (width, height)))
        pictures.append(jpeg.tobytes())
    (raw / "images").mkdir(parents=True)
    labels.to_csv(raw / "labels.csv", index=False)
    for number, name in enumerate(labels["image_id"]):
        picture = pictures[number % len(pictures)]
        comment = b"\xff\xfe" + (2 + 8).to_bytes(2) + number.to_bytes(8)
        (raw / f"images/{name}.jpg").write_bytes(picture[:2] + comment + picture[2:])


def made_up_info(augmentation: Augmentation, dim: int, images: int, views: int) -> FeaturesInfo:
    """Return the content of features.json for made-up features; `write_made_up_features` adds the checksum."""
    return FeaturesInfo(
        backbone="0" * 64,
        engine="none",
        augmentation=augmentation,
        dim=dim,
        images=images,
        keys=[f"{view:064d}" for view in range(views)],
        checksum="",
    )


def write_made_up_features(
    folder: Path, info: FeaturesInfo, index: pd.DataFrame, blocks: Callable[[int], Iterable[NDArray[np.float32]]]
) -> None:
    """Write a data/features; only one block is in memory at a time.

    Args:
        folder: it must not exist.
        info: the content of features.json, but for the checksum.
        index: `image_id, sha256` of the rows.
        blocks: returns the features, (n, dim), of a view, block by block.
    """
    folder.mkdir(parents=True)
    index[["image_id", "sha256"]].to_csv(folder / "index.csv", index=False)
    for view in range(info.views):
        with view_file(folder, view).open("wb") as file:
            file.write(npy_header(info))
            for block in blocks(view):
                file.write(np.ascontiguousarray(block).data)
    (folder / "features.json").write_text(sealed(info, folder).model_dump_json(), encoding="utf-8")


def learnable_features(
    labels: "pd.Series[str]", dim: int, signal: float
) -> Callable[[int], Iterable[NDArray[np.float32]]]:
    """Return made-up features: a mean for each class plus noise, in FACTORS directions and around them.

    The variance in direction k is proportional to 1/k, as in real features (MobileNetV2 on 755 dermoscopic images,
    standardized: the exponent is -1.00, and 200 directions have 86 % of the variance), because that decides how long
    training takes. Three quarters of the variance belong to an image and are the same in all its views. In each
    direction the means of the classes have the standard deviation `signal`, relative to that of the noise.
    """
    classes, target = np.unique(labels.to_numpy(str), return_inverse=True)
    random = np.random.default_rng(0)
    scale = 1 / np.sqrt(np.arange(1, FACTORS + 1, dtype=np.float32))
    means = np.float32(signal) * random.standard_normal((len(classes), FACTORS), np.float32)
    directions = scale[:, None] * random.standard_normal((FACTORS, dim), np.float32)
    rest = np.float32(np.sqrt(0.14 / 0.86 * (scale**2).sum()))

    def blocks(view: int) -> Iterable[NDArray[np.float32]]:
        for start in range(0, len(target), BLOCK):
            chosen = target[start : start + BLOCK]
            of_image, of_view = (np.random.default_rng(seed) for seed in ([1, start], [2, start, view]))
            factors = means[chosen] + noise(of_image, of_view, (len(chosen), FACTORS))
            yield factors @ directions + rest * noise(of_image, of_view, (len(chosen), dim))

    return blocks


def noise(of_image: np.random.Generator, of_view: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return noise of variance 1, three quarters of it drawn by the first generator."""
    both = np.sqrt(np.float32(0.75)) * of_image.standard_normal(shape, np.float32)
    both += np.sqrt(np.float32(0.25)) * of_view.standard_normal(shape, np.float32)
    return both
