"""A project with several photographs of some lesions: drawn images on disk, their manifest and made-up features."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmarks.made_up import made_up_info, write_made_up_features
from dermoscopy.data.tables import write_table
from dermoscopy.features.backbones import BackboneInfo
from dermoscopy.runtime.paths import BACKBONE, FEATURES, MANIFEST, RAW
from tests.support.params_file import PARAMS, write_params
from tests.support.photographs import photograph

# The drawn lesion of each image: 1 has three photographs, 2 two, all others one.
LESIONS = [1, 2, 3, 1, 4, 2, 5, 1, 6]
IMAGE_IDS = [f"ISIC_{number}" for number in range(1, len(LESIONS) + 1)]
PAIRS = [("ISIC_1", "ISIC_4"), ("ISIC_1", "ISIC_8"), ("ISIC_2", "ISIC_6"), ("ISIC_4", "ISIC_8")]
VIEWS, DIM = 2, 8


def photograph_again(pixels: NDArray[np.uint8], angle: float, scale: float, gain: float = 1) -> NDArray[np.uint8]:
    """Return a photograph, of the same size, turned by `angle` degrees, scaled about its centre, and brighter."""
    height, width = pixels.shape[:2]
    pose = cv2.getRotationMatrix2D((width / 2, height / 2), angle, scale)
    turned = cv2.warpAffine(pixels, pose, (width, height), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(cv2.convertScaleAbs(turned, alpha=gain), np.uint8)


def write_same_lesions(folder: Path, lesion_ids: list[str] | None = None) -> pd.DataFrame:
    """Write the project, without a split, and return its manifest; the label table names lesions if they are given."""
    (folder / RAW / "images").mkdir(parents=True)
    for number, (image_id, lesion) in enumerate(zip(IMAGE_IDS, LESIONS, strict=True)):
        again = number != LESIONS.index(lesion)
        pixels = photograph_again(photograph(lesion), 25 * number, 0.8, 0.9) if again else photograph(lesion)
        Image.fromarray(pixels).save(folder / RAW / f"images/{image_id}.jpg", quality=95)
    labels = ["mel" if number % 3 else "nv" for number in range(len(IMAGE_IDS))]
    table = pd.DataFrame({"image_id": IMAGE_IDS, "dx": labels} | ({"lesion_id": lesion_ids} if lesion_ids else {}))
    write_table(table, folder / RAW / "labels.csv")
    paths = [RAW / f"images/{image_id}.jpg" for image_id in IMAGE_IDS]
    manifest = pd.DataFrame(
        {
            "image_id": IMAGE_IDS,
            "path": [path.as_posix() for path in paths],
            "label": labels,
            "lesion_id": lesion_ids or IMAGE_IDS,
            "sha256": [hashlib.sha256((folder / path).read_bytes()).hexdigest() for path in paths],
        }
    )
    write_table(manifest, folder / MANIFEST)
    write_same_features(folder, manifest)
    return manifest


def write_same_features(folder: Path, manifest: pd.DataFrame) -> None:
    """Write features, noise but for what images of one lesion share, with the params and the backbone that fit them."""
    random = np.random.default_rng(0)
    of_lesion = random.normal(size=(max(LESIONS) + 1, DIM))
    features = of_lesion[LESIONS] + 0.1 * random.normal(size=(VIEWS, len(LESIONS), DIM))
    augmentation = PARAMS.augmentation.model_copy(update={"views": VIEWS - 1})
    info = made_up_info(augmentation, DIM, len(LESIONS), VIEWS)
    blocks = features.astype(np.float32)
    write_made_up_features(folder / FEATURES, info, manifest[["image_id", "sha256"]], lambda view: [blocks[view]])
    name, size = PARAMS.backbone.name, PARAMS.backbone.image_size
    backbone = BackboneInfo(name=name, image_size=size, dim=DIM, fingerprint=info.backbone, files={})
    (folder / BACKBONE).mkdir(parents=True)
    (folder / BACKBONE / "backbone.json").write_text(backbone.model_dump_json(), encoding="utf-8")
    write_params(folder, {"augmentation": {"views": VIEWS - 1}})
