"""Class probabilities of new images, from the backbone and the trained head."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.data.image_files import SUFFIXES, FoundImages, find_images, require_plain_name
from dermoscopy.data.images import decode, read_bytes
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.engines.choice import choose_engine, load_engine
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.views import draw_warp, render_views
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.decision import choose_class
from dermoscopy.model.head_info import require_same_backbone
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.progress import progress, tick

FILES_AT_A_TIME = 64  # in memory, all views of each


class Predicted(NamedTuple):
    """Predictions for some files.

    Attributes:
        table: `image, predicted, p_<class>...`, a row for each file that could be read.
        unreadable: a line for each other file that says why.
    """

    table: pd.DataFrame
    unreadable: list[str]


def image_files(paths: list[Path]) -> FoundImages:
    """Return the files among `paths`, as they are, and the images of folders among them (`find_images`), each once."""
    all_found = FoundImages([], [], [])
    for path in paths:
        found = find_images(path) if path.is_dir() else FoundImages([path], [], [])
        if not found.files:
            raise DataError(f"{path}: this folder holds no image ({', '.join(sorted(SUFFIXES))})")
        for whole, part in zip(all_found, found, strict=True):
            whole += part
    return all_found._replace(files=list(dict.fromkeys(all_found.files)))


class Classifier:
    """The backbone of models/backbone and the head of models/head.keras, loaded.

    Attributes:
        classes: in the order of the probabilities.
        views: how many the head was trained with, of each image: itself and the augmented ones.
        clinical: how clinical variables become numbers behind the features; None where the head uses none.
    """

    def __init__(self, prior_exponent: float = 0) -> None:
        """Load both; a PipelineError if one is missing or they do not belong together.

        Args:
            prior_exponent: which class is predicted, see `choose_class`.
        """
        folder = final_backbone()
        backbone = read_backbone_info(folder)
        engine = choose_engine("auto")
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(load_engine, engine, folder)  # while Keras is imported
            # the head needs no TensorFlow where the backbone needs none
            start_keras(seed=0, backend="tensorflow" if engine == "tensorflow" else "openvino")
            from dermoscopy.model.head import load_head

            self._head, self._info = load_head()
            require_same_backbone(self._info, backbone)
            self._engine = loading.result()
        self._prior_exponent = prior_exponent
        self._size = backbone.image_size
        self.classes = self._info.classes
        self.views = self._info.augmentation.views + 1
        self.clinical = self._info.clinical

    def predict_files(self, files: list[Path], tta: bool, clinical: pd.DataFrame | None = None) -> Iterator[Predicted]:
        """Yield the predictions of files, FILES_AT_A_TIME; a bar on a terminal shows how many are done.

        Args:
            files: of any names; folders are not looked into.
            tta: average over the views that the head was trained with, instead of the image alone.
            clinical: those of `age, sex, localization` that are known, a row a file; None is unknown.
        """
        known = pd.DataFrame(index=range(len(files))) if clinical is None else clinical
        numbers = (self.clinical or ClinicalEncoder()).encode(known)
        with progress("predict", len(files), in_logs=False) as bar:
            bar.leave = False  # the predictions are what stays
            for start in range(0, len(files), FILES_AT_A_TIME):
                block = slice(start, start + FILES_AT_A_TIME)
                yield self._predict_block(files[block], numbers[block], tta, bar)

    def _predict(
        self, images: list[NDArray[np.uint8]], numbers: NDArray[np.float32], bar: "tqdm[Any]"
    ) -> NDArray[np.float32]:
        """Return class probabilities, (n, classes), the mean over the views, (views, size, size, 3), of each image.

        `numbers` are the clinical ones, (n, ...).
        """
        from dermoscopy.model.head import predict_probabilities

        views = (view for image in tick(images, bar) for view in image)
        features = self._engine.compute(views, sum(map(len, images)))
        behind = np.repeat(numbers, [len(image) for image in images], axis=0)
        probabilities = predict_probabilities(self._head, np.concatenate([features, behind], axis=1))
        return probabilities.reshape(len(images), -1, len(self.classes)).mean(axis=1)

    def _predict_block(self, files: list[Path], numbers: NDArray[np.float32], tta: bool, bar: "tqdm[Any]") -> Predicted:
        count = self.views if tta else 1

        def prepare(file: Path) -> NDArray[np.uint8] | DataError:
            try:
                require_plain_name(file)
                content = read_bytes(file)
                pixels = decode(content, file)
            except DataError as error:
                return error
            sha256 = hashlib.sha256(content).hexdigest()  # a photograph has the same views under any name
            warps = [draw_warp(self._info.augmentation, sha256, view) for view in range(count)]
            return render_views(pixels, warps, self._size)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            prepared = list(zip(files, pool.map(prepare, files), strict=True))
        images = {file: views for file, views in prepared if not isinstance(views, DataError)}
        unreadable = [str(error) for _, error in prepared if isinstance(error, DataError)]
        bar.update(len(unreadable))
        none = np.empty((0, len(self.classes)), np.float32)
        readable = [not isinstance(views, DataError) for _, views in prepared]
        probabilities = self._predict(list(images.values()), numbers[readable], bar) if images else none
        table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in self.classes])
        table.insert(0, "image", [str(file) for file in images])
        chosen = choose_class(probabilities, self._info.prior, self._prior_exponent)
        table.insert(1, "predicted", np.array(self.classes)[chosen])
        return Predicted(table, unreadable)
