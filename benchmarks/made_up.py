"""Made-up inputs in the form of the data contracts: label tables, image files, features."""

from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.features import FeaturesInfo, npy_header, sealed, view_file

# Images whose features are in memory at a time.
BLOCK = 4096


def write_images(raw: Path, labels: pd.DataFrame, width: int, height: int, drawn: int = 1_000) -> None:
    """Write a data/raw with the label table `labels`, which has `image_id`, and a JPEG of noise for each image.

    Only `drawn` pictures are encoded, however many images there are; each file has a comment of its own, and so other
    bytes than all others.
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


def write_features(
    folder: Path, info: FeaturesInfo, index: pd.DataFrame, blocks: Callable[[int], Iterable[NDArray[np.float32]]]
) -> None:
    """Write a data/features; only one block is in memory at a time.

    Args:
        folder: which does not exist yet.
        info: what features.json says, but for the checksum.
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
    """Return features for `write_features`: a mean for each class, and noise.

    Three quarters of the variance belong to an image and are the same in all its views, as with real augmentation. The
    mean of a class is about `signal` standard deviations of the noise away from zero, whatever `dim` is.
    """
    classes, target = np.unique(labels.to_numpy(str), return_inverse=True)
    means = np.random.default_rng(0).standard_normal((len(classes), dim), np.float32) * np.float32(signal / dim**0.5)

    def blocks(view: int) -> Iterable[NDArray[np.float32]]:
        for start in range(0, len(target), BLOCK):
            chosen = target[start : start + BLOCK]
            of_image, of_view = (np.random.default_rng(seed) for seed in ([1, start], [2, start, view]))
            noise = np.sqrt(np.float32(0.75)) * of_image.standard_normal((len(chosen), dim), np.float32)
            noise += np.sqrt(np.float32(0.25)) * of_view.standard_normal((len(chosen), dim), np.float32)
            yield means[chosen] + noise

    return blocks
