"""This process as an executor."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.features.engines.choice import Engine
from dermoscopy.features.extraction import Extractor, Task
from dermoscopy.runtime.params import Augmentation
from dermoscopy.runtime.threads import map_ahead


class LocalExecutor:
    """Runs tasks here, in their order."""

    def __init__(self, load: Callable[[], Engine]) -> None:
        """Take what loads the engine; it is called when there is a task."""
        self._load = load

    def run(
        self, tasks: Iterable[Task], augmentation: Augmentation, size: int, bar: "tqdm[Any]"
    ) -> Iterator[tuple[Task, NDArray[np.float32]]]:
        engine = self._load()
        extractor = Extractor(engine, augmentation, size)

        def compute(task: Task) -> tuple[Task, NDArray[np.float32]]:
            return task, extractor.compute(task, bar)

        if engine.at_once == 1:
            yield from map(compute, tasks)  # in this thread, which Ctrl-C interrupts
            return
        # a GPU would wait while a task ends and the next one begins
        with ThreadPoolExecutor(engine.at_once) as pool:
            yield from map_ahead(pool, compute, tasks, ahead=engine.at_once)
