"""Class probabilities of new images, from the trained head and the backbone.

For research only: this is no medical device. Run from the top folder of the project, after dvc repro.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.common.backbones import read_backbone_info
from stages.common.engines import Engine, EngineName, choose_engine, load_engine
from stages.common.errors import DataError, PipelineError, one_line, run
from stages.common.heads import HeadInfo, load_head, predict_probabilities, require_same_backbone
from stages.common.images import SUFFIXES, read_image, require_plain_name
from stages.common.tables import write_table
from stages.common.views import draw_warp, render_views

# Images in memory at a time.
BLOCK = 64


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.predict", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--tta", action="store_true", help="average over the views that the head was trained with")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table to FILE instead of printing it")
    arguments = parser.parse_args()

    files = find_images(arguments.paths)
    tables = []
    for table in classify(files, arguments.tta):
        tables.append(table)
        if arguments.csv is None:
            print(table.to_string(index=False, header=len(tables) == 1, float_format="%.4f"), flush=True)
    if tables and arguments.csv is not None:
        write_table(pd.concat(tables), arguments.csv)
    unread = len(files) - sum(map(len, tables))
    if unread:
        raise PipelineError(f"{unread} of {len(files)} images could not be read, see above")


def find_images(paths: list[Path]) -> list[Path]:
    """Return the files among `paths`, as they are, and the images in folders and subfolders among them, each once."""
    files: list[Path] = []
    for path in paths:
        found = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.is_dir())
            if path.is_dir()
            else [path]
        )
        if not found:
            raise DataError(f"{path}: no image ({', '.join(sorted(SUFFIXES))}) is in this folder")
        files += found
    return list(dict.fromkeys(files))


def classify(files: list[Path], tta: bool) -> Iterator[pd.DataFrame]:
    """Yield the predictions of `predict`, some images at a time; a line is printed for each that cannot be read.

    Raises:
        PipelineError: there is no backbone or no head, or they do not belong together.
    """
    backbone = read_backbone_info()
    engine_name = choose_engine("auto")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_engine, engine_name)  # while Keras is imported
        keras = start_keras_for(engine_name)
        head, info = load_head(keras)
        require_same_backbone(info, backbone)
        engine = loading.result()
    for start in range(0, len(files), BLOCK):
        images = read_views(files[start : start + BLOCK], info, backbone.image_size, tta)
        if images:
            yield predict(engine, keras, head, info.classes, images)


def start_keras_for(engine: EngineName) -> Any:
    """Return keras on the backend of an engine: the head then needs no TensorFlow where the backbone needs none."""
    if engine == "tensorflow":
        from stages.common.keras_runtime import start_keras

        return start_keras(seed=0)
    os.environ["KERAS_BACKEND"] = "openvino"
    import keras

    return keras


def read_views(files: list[Path], info: HeadInfo, size: int, tta: bool) -> dict[Path, NDArray[np.uint8]]:
    """Return the views, (views, size, size, 3), of each file that can be read; print a line for each that cannot."""
    count = info.augmentation.views + 1 if tta else 1

    def prepare(file: Path) -> NDArray[np.uint8] | DataError:
        try:
            require_plain_name(file)
            pixels = read_image(file)
        except DataError as error:
            return error
        return render_views(pixels, [draw_warp(info.augmentation, file.stem, view) for view in range(count)], size)

    images = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file, views in zip(files, pool.map(prepare, files), strict=True):
            if isinstance(views, DataError):
                print(f"error: {one_line(str(views))}", file=sys.stderr)
            else:
                images[file] = views
    return images


def predict(
    engine: Engine, keras: Any, head: Any, classes: list[str], images: dict[Path, NDArray[np.uint8]]
) -> pd.DataFrame:
    """Return `image, predicted, p_<class>...`, the mean over the views of each image."""

    def views() -> Iterator[NDArray[np.uint8]]:
        for image in images.values():
            yield from image

    features = engine.run(views(), sum(map(len, images.values())))
    flat = predict_probabilities(keras, head, features)
    probabilities = flat.reshape(len(images), -1, len(classes)).mean(axis=1)
    table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
    table.insert(0, "image", [str(file) for file in images])
    table.insert(1, "predicted", np.array(classes)[probabilities.argmax(axis=1)])
    return table


if __name__ == "__main__":
    run(main)
