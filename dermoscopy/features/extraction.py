"""The pass of the backbone over images, a task at a time: read, decode and warp in threads, ahead of the engine."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.data.images import ImageFile, decode_checked
from dermoscopy.data.storage import read_ahead, read_bytes
from dermoscopy.features.chunks import CHUNK, ViewChunks
from dermoscopy.features.engines.choice import Engine
from dermoscopy.features.views import draw_warp, render_views
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.progress import progress, tick
from dermoscopy.runtime.threads import map_ahead

MEMORY = 128 * 2**20  # bytes of a task's features: these are small, maps may not be


class Task(NamedTuple):
    """Some views of some images: what an engine computes at a time, and what is lost where it stops on the way.

    Attributes:
        numbers: of the images, in the manifest.
        files: where each is.
        views: which views of each.
    """

    numbers: list[int]
    files: list[ImageFile]
    views: tuple[int, ...]


class Executor(Protocol):
    """What has tasks computed."""

    def run(
        self, tasks: Iterable[Task], augmentation: Augmentation, size: int, bar: "tqdm[Any]"
    ) -> Iterator[tuple[Task, NDArray[np.float32]]]:
        """Yield each task with its features, (images, views, ...), as it is done; the bar moves on by images.

        Args:
            tasks: in any number; they are asked for as they are needed.
            augmentation: what the views look like.
            size: of the backbone's input, in pixels.
            bar: of the progress.
        """
        ...


def compute_missing(
    manifest: pd.DataFrame,
    chunks: list[ViewChunks],
    augmentation: Augmentation,
    size: int,
    executor: Executor,
    description: str = "features",
) -> None:
    """Compute what no chunk holds yet, and keep it as each task is done.

    Args:
        manifest: the images, by number.
        chunks: what has been computed, one a view.
        augmentation: what the views look like.
        size: of the backbone's input, in pixels.
        executor: runs the backbone; not asked if nothing is missing.
        description: of what is computed, for the bar.
    """
    missing: dict[tuple[int, ...], list[int]] = {}
    for number in range(len(manifest)):
        views = tuple(view for view, of_view in enumerate(chunks) if number not in of_view)
        if views:
            missing.setdefault(views, []).append(number)
    if not missing:
        return
    tasks = make_tasks(manifest, missing, [of_view.bytes_of_image for of_view in chunks])
    with progress(description, sum(map(len, missing.values()))) as bar:
        for task, features in executor.run(tasks, augmentation, size, bar):
            for position, view in enumerate(task.views):
                chunks[view].add(task.numbers, features[:, position])


def make_tasks(
    manifest: pd.DataFrame, missing: dict[tuple[int, ...], list[int]], bytes_of_view: Sequence[int]
) -> Iterator[Task]:
    """Yield tasks of at most CHUNK images that lack the same views, and of at most MEMORY bytes of features."""
    files = list(manifest[["image_id", "path", "sha256"]].itertuples(index=False, name=None))
    for views, numbers in missing.items():
        images = max(1, min(CHUNK, MEMORY // sum(bytes_of_view[view] for view in views)))
        for start in range(0, len(numbers), images):
            of_task = numbers[start : start + images]
            yield Task(of_task, [ImageFile(*files[number]) for number in of_task], views)


class Extractor:
    """A loaded engine with all that makes its input: the same task gives the same features wherever it runs."""

    def __init__(self, engine: Engine, augmentation: Augmentation, size: int, threads: int | None = None) -> None:
        """Take the engine, what the views look like, their size in pixels, and how many threads decode: all cores."""
        self._engine = engine
        self._augmentation = augmentation
        self._size = size
        self._threads = threads or os.cpu_count() or 1

    def compute(
        self, task: Task, bar: "tqdm[Any] | None" = None, contents: Iterable[bytes] | None = None
    ) -> NDArray[np.float32]:
        """Return the features, (images, views, ...), of a task; `engine.at_once` threads may call this at a time.

        Args:
            task: what to compute.
            bar: moves on for each image.
            contents: of the files, where they have been read.

        Raises:
            DataError: an image cannot be read, or has changed.
        """

        def render(image: tuple[ImageFile, bytes]) -> NDArray[np.uint8]:
            return prepare_views(image[0], task.views, self._augmentation, self._size, image[1])

        reading = read_ahead([file.path for file in task.files]) if contents is None else nullcontext(contents)
        with reading as read, ThreadPoolExecutor(self._threads) as rendering:
            rendered = map_ahead(rendering, render, zip(task.files, read, strict=True), ahead=4 * self._threads)
            views = (view for of_image in (tick(rendered, bar) if bar else rendered) for view in of_image)
            features = self._engine.compute(views, len(task.files) * len(task.views))
        return features.reshape(len(task.files), len(task.views), *features.shape[1:])


def prepare_views(
    image: ImageFile, views: tuple[int, ...], augmentation: Augmentation, size: int, content: bytes | None = None
) -> NDArray[np.uint8]:
    """Return views, (len(views), size, size, 3), of an image; `content` is that of its file, where it has been read."""
    pixels = decode_checked(read_bytes(image.path) if content is None else content, image.path, image.sha256)
    return render_views(pixels, [draw_warp(augmentation, image.image_id, view) for view in views], size)
