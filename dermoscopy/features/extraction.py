"""Run the frozen backbone once over every view of every image, and keep what it says."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from stages.common.backbones import read_backbone_info
from stages.common.engines import Engine, choose_engine, engine_identity, load_engine
from stages.common.errors import run
from stages.common.features import FEATURES, FeaturesInfo, npy_header, sealed, view_file
from stages.common.files import replacing
from stages.common.images import read_image
from stages.common.params import Augmentation, load_params, require_unchanged
from stages.common.progress import progress
from stages.common.store import CHUNK, KEEP_VIEWS, ViewStore, image_keys, prune, view_key
from stages.common.tables import MANIFEST, read_table
from stages.common.views import draw_warp, render_views

WORK = Path("data/.features")

Item = TypeVar("Item")
Result = TypeVar("Result")


def main() -> None:
    params = load_params()
    manifest = read_table(MANIFEST, "image_id", "path", "sha256")
    backbone = read_backbone_info()
    engine = choose_engine(params.features.engine)
    identity = engine_identity(engine)
    keys = [
        view_key(backbone.fingerprint, identity, params.augmentation, view)
        for view in range(params.augmentation.views + 1)
    ]
    images = image_keys(manifest)
    stores = [ViewStore(WORK, key, images, backbone.dim) for key in keys]
    compute_missing(manifest, stores, params.augmentation, backbone.image_size, partial(load_engine, engine))
    info = FeaturesInfo(
        backbone=backbone.fingerprint,
        engine=identity,
        augmentation=params.augmentation,
        dim=backbone.dim,
        images=len(manifest),
        keys=keys,
        checksum="",
    )
    write_features(manifest, stores, info)
    require_unchanged(params.augmentation, params.features)
    prune(WORK, keep=max(KEEP_VIEWS, len(keys)))
    print(f"features: {info.dim} numbers for {info.images} images x {info.views} views, by {info.engine}")


def compute_missing(
    manifest: pd.DataFrame,
    stores: list[ViewStore],
    augmentation: Augmentation,
    size: int,
    load: Callable[[], Engine],
) -> None:
    """Compute what no store has yet, a chunk of images at a time, all views of an image from one decoding.

    Args:
        manifest: the images, by number.
        stores: one a view.
        augmentation: what the views look like.
        size: of the backbone's input, in pixels.
        load: returns what runs the backbone; called only if something is missing.
    """
    missing: dict[tuple[int, ...], list[int]] = {}
    for number in range(len(manifest)):
        views = tuple(view for view, store in enumerate(stores) if number not in store)
        if views:
            missing.setdefault(views, []).append(number)
    if not missing:
        return
    backbone = load()
    rows = manifest[["image_id", "path", "sha256"]].to_numpy()
    total = sum(map(len, missing.values()))
    with progress("features", total) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for views, numbers in missing.items():
            render = partial(prepare_views, views=views, augmentation=augmentation, size=size)
            prepared = map_ahead(pool, render, (rows[number] for number in numbers), ahead=4 * (os.cpu_count() or 1))
            for start in range(0, len(numbers), CHUNK):
                chunk = numbers[start : start + CHUNK]
                flat = (image for rendered in tick(islice(prepared, len(chunk)), bar) for image in rendered)
                features = backbone.run(flat, len(chunk) * len(views)).reshape(len(chunk), len(views), -1)
                for position, view in enumerate(views):
                    stores[view].add(chunk, features[:, position])


def prepare_views(
    row: tuple[str, str, str], views: tuple[int, ...], augmentation: Augmentation, size: int
) -> NDArray[np.uint8]:
    """Return views, (len(views), size, size, 3), of the image of a row (image_id, path, sha256)."""
    image_id, path, sha256 = row
    warps = [draw_warp(augmentation, image_id, view) for view in views]
    return render_views(read_image(Path(path), sha256), warps, size)


def map_ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Yield function(item) in order, with at most `ahead` results computed before they are asked for.

    So memory holds `ahead` results and, while they are computed, as many items at work as the pool has threads, however
    many items there are.
    """
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def tick(items: Iterable[Item], bar: "tqdm[Any]") -> Iterator[Item]:
    """Yield the items and move the bar on for each."""
    for item in items:
        yield item
        bar.update()


def write_features(manifest: pd.DataFrame, stores: list[ViewStore], info: FeaturesInfo) -> None:
    """Write data/features from complete stores, a chunk in memory at a time.

    Not through a memory map: where the disk is full, that kills the process without a word.
    """
    header = npy_header(info)
    with replacing(FEATURES, size=4 * info.dim * info.images * info.views) as folder:
        folder.mkdir()
        for view, store in enumerate(stores):
            with view_file(folder, view).open("wb") as file:
                file.write(header)
                for numbers, features in store.read():
                    for number, feature in zip(numbers.tolist(), features, strict=True):
                        file.seek(len(header) + number * feature.nbytes)
                        file.write(feature.data)
        manifest[["image_id", "sha256"]].to_csv(folder / "index.csv", index=False)
        (folder / "features.json").write_text(sealed(info, folder).model_dump_json(indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main)
