"""Drawn images in the layout of HAM10000, so that the pipeline runs without any download."""

import os
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from dermoscopy.data.sources.lesions import PAINTERS, draw_lesion
from dermoscopy.runtime.params import Data
from dermoscopy.runtime.progress import progress

JPEG_QUALITY = 90
MIN_LESIONS = 8  # of each diagnosis: the least that a stratified 70/15/15 split by lesion can share out

# From the HAM10000 metadata: percent of images, images per lesion, then sex, kind of diagnosis and place (weights).
HAM10000 = pd.read_csv(
    StringIO("""             akiec,   bcc,   bkl,    df,   mel,    nv,  vasc
        percent,          3.27,  5.13, 10.97,  1.15, 11.11, 66.95,  1.42
        per_lesion,       1.43,  1.57,  1.51,  1.58,  1.81,  1.24,  1.45
        age,                67,    67,    64,    53,    61,    46,    51
        age_std,            11,    14,    14,    14,    15,    15,    22
        male,               67,    61,    57,    55,    62,    51,    49
        female,             32,    38,    42,    45,    38,    48,    51
        unknown sex,         1,     1,     1,     0,     0,     1,     0
        histo,             100,   100,    70,    48,   100,    37,    47
        follow_up,           0,     0,     0,     0,     0,    55,     0
        consensus,           0,     0,    24,    52,     0,     8,    53
        confocal,            0,     0,     6,     0,     0,     0,     0
        abdomen,             2,     4,     4,     4,     6,    13,    19
        back,                9,    36,    18,     2,    29,    21,    16
        chest,               4,     9,     7,     0,     6,     3,     4
        ear,                 1,     0,     1,     0,     2,     0,     0
        face,               35,    20,    29,     0,     9,     2,     6
        foot,                0,     1,     0,     2,     3,     4,     0
        hand,                4,     0,     1,     0,     0,     1,     4
        lower extremity,    20,    11,    16,    71,    17,    22,    19
        neck,                3,     3,     3,     0,     3,     1,     2
        scalp,               4,     4,     3,     0,     1,     1,     1
        trunk,               0,     2,     7,     0,     4,    19,    22
        unknown,             0,     1,     2,     0,     1,     3,     0
        upper extremity,    19,    10,    10,    21,    19,    10,     8"""),
    skipinitialspace=True,
)


def fetch(data: Data, destination: Path, work: Path) -> None:
    """Draw `data.sample_images` images into destination/images and write destination/labels.csv.

    The same params give the same bytes, whatever the number of threads; `work` is not needed.
    """
    labels = plan(data.sample_images, data.seed)
    labels.to_csv(destination / "labels.csv", index=False)
    folder = destination / "images"
    folder.mkdir()

    def write_lesion(number: int, rows: pd.DataFrame) -> int:
        images = draw_lesion(rows["dx"].iloc[0], data.seed, number, len(rows))
        for image_id, image in zip(rows["image_id"], images, strict=True):
            _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            (folder / f"{image_id}.jpg").write_bytes(jpeg.tobytes())
        return len(rows)

    lesions = [rows for _, rows in labels.groupby("lesion_id")]
    with progress("drawing", len(labels)) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for written in pool.map(write_lesion, range(1, len(lesions) + 1), lesions):
            bar.update(written)


def plan(images: int, seed: int) -> pd.DataFrame:
    """Return the HAM10000 metadata of a sample: one row an image, sorted by lesion.

    Diagnoses are as imbalanced as in HAM10000, but each has at least MIN_LESIONS lesions, of one to three images.
    """
    rng = np.random.default_rng(seed)
    counts = {dx: max(MIN_LESIONS, round(HAM10000[dx]["percent"] / 100 * images)) for dx in PAINTERS}
    counts["nv"] += images - sum(counts.values())
    lesions = pd.concat([plan_diagnosis(rng, dx, count) for dx, count in counts.items()])
    # Shuffled, or the numbers would give the diagnosis away.
    lesions = lesions.iloc[rng.permutation(len(lesions))]
    lesions.insert(0, "lesion_id", [f"HAM_{number:07d}" for number in range(1, len(lesions) + 1)])
    table = lesions.iloc[np.repeat(np.arange(len(lesions)), lesions.pop("images"))].reset_index(drop=True)
    table.insert(1, "image_id", [f"ISIC_{number:07d}" for number in rng.permutation(images)])
    return table


def plan_diagnosis(rng: Generator, dx: str, images: int) -> pd.DataFrame:
    """Return one row a lesion: how many of the `images` show it, its diagnosis and its patient."""
    frequencies = HAM10000[dx]
    number = max(MIN_LESIONS, round(images / frequencies["per_lesion"]))
    # Each lesion has one image and two places for more.
    taken = rng.choice(2 * number, images - number, replace=False) // 2

    def choose(first: str, last: str) -> NDArray[np.str_]:
        weights = frequencies.loc[first:last]
        return rng.choice(weights.index.to_numpy(str), number, p=weights / weights.sum())

    age = 5 * rng.normal(frequencies["age"] / 5, frequencies["age_std"] / 5, number).round()
    return pd.DataFrame(
        {
            "images": 1 + np.bincount(taken, minlength=number),
            "dx": dx,
            "dx_type": choose("histo", "confocal"),
            "age": np.where(rng.random(number) < 0.02, np.nan, age.clip(0, 85)),
            "sex": np.char.replace(choose("male", "unknown sex"), " sex", ""),
            "localization": choose("abdomen", "upper extremity"),
        }
    )
