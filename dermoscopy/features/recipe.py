"""What decides the features of an image: everything that goes into the key of a view.

Features under the same key are never computed again, so a change of code that changes features must raise
RECIPE_VERSION; tests/features/test_recipe.py fails where that was forgotten.
"""

import hashlib
import json

import cv2
import pandas as pd
import PIL

from dermoscopy.runtime.params import Augmentation

# Of decoding (data/images.py), views (features/views.py) and the engines; raise it by one when features change.
RECIPE_VERSION = 2


def view_key(backbone: str, engine: str, augmentation: Augmentation, view: int) -> str:
    """Return what identifies a view: a SHA-256 (hexadecimal) of all that decides its features beside the image.

    Args:
        backbone: its fingerprint.
        engine: its identity.
        augmentation: what the views look like.
        view: its number; view 0 is the image itself, whatever the augmentation.
    """
    made_from = {
        "recipe": RECIPE_VERSION,
        "backbone": backbone,
        "engine": engine,
        "opencv": cv2.__version__,
        "pillow": PIL.__version__,
        "view": view,
        "warp": augmentation.model_dump(exclude={"views"}) if view else {},
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def image_keys(manifest: pd.DataFrame) -> list[bytes]:
    """Return what identifies each image: its id, which decides its warps, and its content; 32 bytes."""
    pairs = zip(manifest["image_id"], manifest["sha256"], strict=True)
    return [hashlib.sha256(f"{image_id}/{sha256}".encode()).digest() for image_id, sha256 in pairs]
