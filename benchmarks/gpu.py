"""The features stage and fine-tuning on a GPU: what is measured is printed at once, all of it as JSON in the last line.

For a machine that has little else: it needs Python, the working tree, JAX or PyTorch with what they need of CUDA, and
of requirements.txt keras, numpy, opencv-python-headless, pandas, pillow, pydantic, ruamel-yaml and tqdm with what they
need; no TensorFlow, OpenVINO or DVC. Images are drawn and weights are random.

    python -m benchmarks.gpu --engine jax
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs import draw_photographs
from benchmarks.timing import alternate, timed
from benchmarks.workers import Worker
from dermoscopy.data.images import ImageFile, configure_image_libraries
from dermoscopy.features.backbones import hash_file, read_backbone_info
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.engines.choice import choose_engine, engine_identity
from dermoscopy.features.engines.devices import gpu_name
from dermoscopy.features.engines.keras_engine import KerasEngine
from dermoscopy.features.executors.local import LocalExecutor
from dermoscopy.features.extraction import compute_missing, prepare_views
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.keras_start import Backend, start_keras
from dermoscopy.runtime.params import Precision, load_params
from dermoscopy.runtime.workspace import PROJECT

PARAMS = load_params(PROJECT / "params.yaml")
VIEWS = PARAMS.augmentation.views + 1
FILES = 64  # that differ; many images are these again and again under other names
COMPARED = 16  # images whose features are computed on the processor too
ROUNDS = 3

START = time.monotonic()
Results = dict[str, Any]


class Stage:
    """A backbone and images, as files and prepared, and what the features stage does with them."""

    def __init__(self, backbone: Path, folder: Path) -> None:
        """Draw the images into a folder, as photographs and as files without compression, of the backbone's size."""
        self.backbone = backbone
        self._info = read_backbone_info(backbone)
        self._work = folder
        (folder / "jpeg").mkdir()
        self.photographs = draw_photographs(folder / "jpeg", FILES)
        files = [ImageFile(*row) for row in self.photographs.itertuples(index=False, name=None)]
        size = self._info.side
        self.prepared = [prepare_views(file, (0,), PARAMS.augmentation, size)[0] for file in files]
        paths = [folder / f"{file.image_id}.bmp" for file in files]
        for path, image in zip(paths, self.prepared, strict=True):
            cv2.imwrite(str(path), image[..., ::-1])
        self.squares = self.photographs.assign(path=list(map(str, paths)), sha256=list(map(hash_file, paths)))

    def images(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield prepared images."""
        return islice(cycle(self.prepared), count)

    def run(self, engine: KerasEngine, files: pd.DataFrame, count: int, views: int) -> None:
        """Compute views of `count` images from files, into chunks that are thrown away."""
        manifest = files.iloc[np.arange(count) % len(files)].reset_index(drop=True)
        manifest["image_id"] = [f"{image_id}_{number}" for number, image_id in enumerate(manifest["image_id"])]
        with TemporaryDirectory(dir=self._work) as root:
            keys = [view_key("", "", PARAMS.augmentation, view) for view in range(views)]
            chunks = [ViewChunks(Path(root), key, image_keys(manifest), (self._info.dim,)) for key in keys]
            compute_missing(manifest, chunks, PARAMS.augmentation, self._info.side, LocalExecutor(lambda: engine))

    def decode(self, count: int, views: int) -> None:
        """Decode photographs and draw their views in threads, with nothing behind them."""
        files = islice(cycle(self.photographs.itertuples(index=False, name=None)), count)
        render = partial(
            prepare_views, views=tuple(range(views)), augmentation=PARAMS.augmentation, size=self._info.side
        )
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(lambda row: render(ImageFile(*row)), files):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--engine", choices=get_args(Backend), help="default: the installed one that sees a GPU")
    parser.add_argument("--network", default="InceptionResNetV2")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=4096, help="in the longest run")
    arguments = parser.parse_args()
    engine = choose_engine(arguments.engine or "auto")
    if engine == "openvino":
        parser.error("no engine sees a GPU here: --engine jax measures this processor")
    configure_image_libraries()
    with TemporaryDirectory() as folder:
        results = measure(engine, arguments.network, arguments.size, arguments.images, Path(folder))
    print(json.dumps(results))


def measure(engine: Backend, network: str, size: int, images: int, folder: Path) -> Results:
    """Return all that is measured, and print each part as it is known."""
    results: Results = {}

    def report(name: str, value: Any) -> None:
        results[name] = value
        print(f"{time.monotonic() - START:4.0f} s  {name}: {json.dumps(value)}", flush=True)

    report("machine", {"engine": engine_identity(engine), "cores": os.cpu_count(), "python": platform.python_version()})
    report("input", {"network": network, "size": size, "images": images})
    backbone = folder / "backbone"
    report("s to build the backbone", round(timed(partial(write_random_backbone, engine, network, size, backbone)), 1))
    stage = Stage(backbone, folder)
    decoding = decoding_speed(stage, images)
    report("decoding alone: views/s", decoding)
    on_processor = Worker(load_on_processor, engine, backbone)  # while the GPU's engine is compiled
    precisions = get_args(Precision) if gpu_name(engine) else ("float32",)
    for precision in precisions:
        start = time.monotonic()
        loaded = KerasEngine(backbone, engine, precision)
        seconds = time.monotonic() - start
        if precision == "float32":
            expected = on_processor.call(KerasEngine.compute, stage.prepared[:COMPARED], COMPARED)
            on_processor.close()
        found = loaded.compute(stage.prepared[:COMPARED], COMPARED)
        report(f"{precision}: error of the features", difference(found, expected))
        report(f"{precision}: s to load and compile", round(seconds, 1))
        report(f"{precision}: images/s", speeds(stage, loaded, images, decoding))
        if precision == "float32":
            report("growth: s by images", growth(stage, loaded, images))
    report("fine-tuning", finetuning_speed(engine, stage, images))
    return results


def write_random_backbone(engine: Backend, network: str, size: int, folder: Path) -> None:
    """Write a backbone with random weights in Keras' form."""
    start_keras(seed=0, backend=engine)
    from dermoscopy.features.networks import build_backbone, write_backbone

    folder.mkdir()
    write_backbone(build_backbone(network, None, size), network, folder, ["keras"])


def load_on_processor(engine: Backend, folder: Path) -> KerasEngine:
    """Return an engine that sees no GPU, for a process of its own."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    return KerasEngine(folder, engine)


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> dict[str, float]:
    """Return how far features are from those of the processor, of the image where that is the most."""
    error = found - expected
    return {
        "of the norm": float((np.linalg.norm(error, axis=1) / np.linalg.norm(expected, axis=1)).max()),
        "of the greatest": float((np.abs(error).max(axis=1) / np.abs(expected).max(axis=1)).max()),
    }


def speeds(stage: Stage, engine: KerasEngine, images: int, decoding: float) -> Results:
    """Return the images a second of the bare network, the engine and the stage, and their share of the bare network's.

    Each is the best of some rounds. The bare network is sent one batch in memory again and again; the engine gets
    images and makes batches of them; the stage reads files, of which those without compression cost next to nothing,
    and writes chunks. Of photographs the limit is named too: `decoding`, in views a second, or the network.
    """
    each = images // VIEWS
    contenders: dict[str, tuple[Callable[[], object], int]] = {
        "bare network": (partial(run_bare, engine, images), images),
        "engine": (lambda: engine.compute(stage.images(images), images), images),
        "stage, no decoding": (partial(stage.run, engine, stage.squares, images, 1), images),
        "stage, photographs": (partial(stage.run, engine, stage.photographs, each, VIEWS), each * VIEWS),
    }
    seconds = alternate({name: call for name, (call, _) in contenders.items()}, ROUNDS)
    found = {name: count / min(seconds[name]) for name, (_, count) in contenders.items()}
    bare = found["bare network"]
    rows: Results = {
        name: {"images/s": round(speed, 1), "share": round(speed / bare, 3)} for name, speed in found.items()
    }
    rows["stage, photographs"] |= {
        "limit": "decoding" if decoding < bare else "network",
        "share of the limit": round(found["stage, photographs"] / min(decoding, bare), 3),
    }
    return rows


def run_bare(engine: KerasEngine, images: int) -> None:
    """Send batches, at least `images` images, and wait for each when the next one has been sent."""
    from keras.ops import convert_to_numpy

    batch = np.random.default_rng(0).integers(0, 256, engine.batch_shape, np.uint8)
    sent = engine.infer(batch)
    for _ in range(-(-images // len(batch)) - 1):
        sent, before = engine.infer(batch), sent
        convert_to_numpy(before)
    convert_to_numpy(sent)


def decoding_speed(stage: Stage, images: int) -> float:
    """Return how many views of photographs a second all cores decode and draw, with nothing behind them."""
    each = images // VIEWS
    return round(each * VIEWS / min(timed(partial(stage.decode, each, VIEWS)) for _ in range(ROUNDS)), 1)


def growth(stage: Stage, engine: KerasEngine, images: int) -> dict[int, float]:
    """Return the seconds of the stage without decoding, from one batch to all images."""
    counts = [engine.batch_shape[0]]
    while counts[-1] < images:
        counts.append(min(4 * counts[-1], images))
    return {count: round(timed(partial(stage.run, engine, stage.squares, count, 1)), 3) for count in counts}


def finetuning_speed(engine: Backend, stage: Stage, images: int) -> Results:
    """Return the images a second of the frozen layers, and of an epoch above them, its validation included.

    An epoch is measured from the end of the one before, which compiles; its end writes the weights.
    """
    start_keras(seed=0, backend=engine)
    from dermoscopy.features.networks import cut_backbone, load_backbone
    from dermoscopy.model.finetuning import tune
    from dermoscopy.model.tuned_backbone import keep_views
    from dermoscopy.model.tuning_files import Tuning

    class Timed(Tuning):
        """A tuning that knows when each epoch ended."""

        ends: tuple[float, ...] = ()

        def save(self, *arguments: Any) -> None:
            super().save(*arguments)
            self.ends = (*self.ends, time.monotonic())

    finetune = PARAMS.finetune.model_copy(update={"epochs": 2, "views": 1, "patience": 2})
    info = read_backbone_info(stage.backbone)
    cut = cut_backbone(load_backbone(stage.backbone), finetune.layers)
    assert cut.trunk is not None  # all networks of one size have one
    manifest = stage.photographs.iloc[np.arange(images // 4) % FILES].reset_index(drop=True)
    manifest["image_id"] = [f"{image_id}_{number}" for number, image_id in enumerate(manifest["image_id"])]
    parts = {"train": manifest, "validation": manifest[:FILES]}
    with TemporaryDirectory() as folder:
        start = time.monotonic()
        kept = keep_views(parts, info, cut.trunk, cut.name, engine, Path(folder), finetune.views, PARAMS.augmentation)
        seconds = time.monotonic() - start
        assert kept is not None  # there is room for them
        training, validation = ((kept[name], np.arange(len(part), dtype=np.int32) % 7) for name, part in parts.items())
        tuning = Timed(Path(folder) / "tuning", finetune)
        tune(cut, training, validation, 7, finetune, tuning)
    return {
        "layers that learn": cut.layers,
        "frozen layers, images/s, compilation included": round(len(manifest) * (1 + finetune.views) / seconds, 1),
        "first epoch, s": round(tuning.ends[1] - tuning.ends[0], 1),
        "second epoch, images/s": round(len(manifest) / (tuning.ends[2] - tuning.ends[1]), 1),
    }


if __name__ == "__main__":
    run_command(main)
