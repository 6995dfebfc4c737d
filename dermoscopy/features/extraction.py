"""The pass of the backbone over images: decode and warp in threads, ahead of the engine."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.images import ImageFile, read_image
from dermoscopy.features.chunks import CHUNK, ViewChunks
from dermoscopy.features.engines.choice import Engine
from dermoscopy.features.views import draw_warp, render_views
from dermoscopy.runtime.files import located
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.progress import progress, tick
from dermoscopy.runtime.threads import map_ahead

MEMORY = 128 * 2**20  # bytes of a chunk: features are far smaller, maps may not be


def compute_missing(
    manifest: pd.DataFrame,
    chunks: list[ViewChunks],
    augmentation: Augmentation,
    size: int,
    load: Callable[[], Engine],
    description: str = "features",
) -> None:
    """Compute what no chunk holds yet, a chunk of images at a time, all views of an image from one decoding.

    Args:
        manifest: the images, by number.
        chunks: what has been computed, one a view.
        augmentation: what the views look like.
        size: of the backbone's input, in pixels.
        load: returns what runs the backbone; called only if something is missing.
        description: of what is computed, for the bar.
    """
    missing: dict[tuple[int, ...], list[int]] = {}
    for number in range(len(manifest)):
        views = tuple(view for view, of_view in enumerate(chunks) if number not in of_view)
        if views:
            missing.setdefault(views, []).append(number)
    if not missing:
        return
    engine = load()
    files = list(manifest[["image_id", "path", "sha256"]].itertuples(index=False, name=None))
    total = sum(map(len, missing.values()))
    with progress(description, total) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for views, numbers in missing.items():
            render = partial(prepare_views, views=views, augmentation=augmentation, size=size)
            prepared = map_ahead(
                pool, render, (ImageFile(*files[number]) for number in numbers), ahead=4 * (os.cpu_count() or 1)
            )
            at_a_time = max(1, min(CHUNK, MEMORY // sum(chunks[view].bytes_of_image for view in views)))
            for start in range(0, len(numbers), at_a_time):
                numbers_of_chunk = numbers[start : start + at_a_time]
                count = len(numbers_of_chunk)
                flat = (image for rendered in tick(islice(prepared, count), bar) for image in rendered)
                features = engine.compute(flat, count * len(views))
                features = features.reshape(count, len(views), *features.shape[1:])
                for position, view in enumerate(views):
                    chunks[view].add(numbers_of_chunk, features[:, position])


def prepare_views(image: ImageFile, views: tuple[int, ...], augmentation: Augmentation, size: int) -> NDArray[np.uint8]:
    """Return views, (len(views), size, size, 3), of an image."""
    warps = [draw_warp(augmentation, image.image_id, view) for view in views]
    return render_views(read_image(located(image.path), image.sha256), warps, size)
