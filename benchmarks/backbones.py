"""How fast each engine runs a backbone on images in memory, and which share of the machine's limit that is."""

from contextlib import ExitStack, closing
from functools import partial
from statistics import median

import numpy as np
from numpy.typing import NDArray

from benchmarks.engines import BATCH, Infer, engines
from benchmarks.inputs import SIZE, BackboneFolder, make_backbone, noise_images
from benchmarks.product import OPERATIONS, multiply, products
from benchmarks.timing import Row, alternate, summarize, timed
from benchmarks.workers import Worker

BACKBONES = ("InceptionResNetV2", "DenseNet121", "ConvNeXtSmall")
ROUNDS = 3
TURN_SECONDS = 3.0


def measure() -> dict[str, list[Row]]:
    """Return a row for each backbone and engine, and one for each backbone and library of matrix products."""
    tables: dict[str, list[Row]] = {"Engines, 224 pixels, float32": [], "What the machine can do": []}
    for name in BACKBONES:
        for title, rows in zip(tables, measure_engines(make_backbone(name)), strict=True):
            tables[title] += rows
    return tables


def measure_engines(backbone: BackboneFolder) -> tuple[list[Row], list[Row]]:
    """Return the rows of the engines and of the matrix products, all measured in turns."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(closing(Worker(load, backbone.path))) for name, load in engines().items()}
        machine = {name: stack.enter_context(closing(Worker(load))) for name, load in products().items()}
        features = {name: worker.call(first_features) for name, worker in workers.items()}
        counts = {name: images_for(TURN_SECONDS, worker) for name, worker in workers.items()}
        turns = {f"engine {name}": partial(worker.call, run_images, counts[name]) for name, worker in workers.items()}
        turns |= {f"product {name}": partial(worker.call, multiply) for name, worker in machine.items()}
        alternate(turns, rounds=1)  # to warm up
        seconds = alternate(turns, ROUNDS)

    speeds = {name: [counts[name] / second for second in seconds[f"engine {name}"]] for name in workers}
    rates = {name: [OPERATIONS / 1e9 / second for second in seconds[f"product {name}"]] for name in machine}
    limit = max(map(median, rates.values())) * 1e9 / (2 * backbone.multiply_adds)
    baseline = median(speeds["TensorFlow"])
    engine_rows: list[Row] = [
        {
            "backbone": backbone.name,
            "engine": name,
            **summarize(speeds[name], "images/s"),
            "times TensorFlow": median(speeds[name]) / baseline,
            "share of the limit": median(speeds[name]) / limit,
            "difference of features": None
            if name.startswith("PyTorch")
            else greatest_difference(features[name], features["TensorFlow"]),
        }
        for name in workers
    ]
    product_rows: list[Row] = [
        {
            "backbone in turn": backbone.name,
            "matrix product": name,
            **summarize(rates[name], "GFLOP/s"),
            "multiply-adds of the backbone (10^9)": backbone.multiply_adds / 1e9,
            "limit (images/s)": median(rates[name]) * 1e9 / (2 * backbone.multiply_adds),
        }
        for name in machine
    ]
    return engine_rows, product_rows


def first_features(infer: Infer, size: int = SIZE) -> NDArray[np.float32]:
    """Return the features of a batch of noise."""
    return infer(noise_images(BATCH, size))


def run_images(infer: Infer, count: int) -> None:
    """Compute the features of this many images of noise."""
    infer(np.resize(noise_images(BATCH), (count, SIZE, SIZE, 3)))


def images_for(seconds: float, worker: Worker[Infer]) -> int:
    """Return how many images, in whole batches, take about this long."""
    return BATCH * max(1, round(seconds / timed(partial(worker.call, run_images, BATCH))))


def greatest_difference(features: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the greatest error in any image's features, relative to the greatest of its reference features."""
    return float((np.abs(features - reference).max(axis=1) / np.abs(reference).max(axis=1)).max())
