"""Class probabilities of new images, from backbone and trained head, or the mean of several."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from dermoscopy.data.image_files import SUFFIXES, FoundImages, find_images, require_plain_name
from dermoscopy.data.images import decode
from dermoscopy.model.clinical_input import remarks
from dermoscopy.model.decision import adjust
from dermoscopy.model.members import ALONE, Member, load_members
from dermoscopy.runtime.errors import DataError, enumerated
from dermoscopy.runtime.progress import progress, tick

FILES_AT_A_TIME = 64  # in memory, all views of each


class Predicted(NamedTuple):
    """Predictions for some files.

    Attributes:
        table: `image, predicted, p_<class>...`, a row for each file that could be read.
        unreadable: a line for each other file that says why.
        adjusted: the probabilities, (rows, classes), of which the largest is of the predicted class, see `adjust`.
        features: of the images alone, (rows, dim), by the first backbone.
    """

    table: pd.DataFrame
    unreadable: list[str]
    adjusted: NDArray[np.float64]
    features: NDArray[np.float32]


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
    """A trained head and its backbone, loaded; or several, of which the mean is predicted.

    An image is decoded once, and the features that a backbone makes of a view are computed once for all heads on it.

    Attributes:
        classes: in the order of the probabilities.
        clinical: whether a head uses clinical variables.
    """

    def __init__(self, members: Sequence[Member] = (Member(),)) -> None:
        """Load all; a PipelineError if one is missing or they do not belong together, see `load_members`.

        One that is there several times is loaded once, and weighs as much.
        """
        weights = Counter(members)
        self._backbones = load_members(list(weights))
        self._heads = [head for backbone in self._backbones for head in backbone.heads]
        self._weights = [weights[head.member] for head in self._heads]
        self.classes = self._heads[0].info.classes
        self.clinical = any(head.info.clinical for head in self._heads)

    def views(self, tta: bool | None) -> dict[str | None, int]:
        """Return how many views of an image are averaged, by name of the model; see `predict_files` for `tta`."""
        return {head.member.name: len(head.views(tta)) for head in self._heads}

    def remarks(self, clinical: pd.DataFrame) -> list[str]:
        """Return the `remarks` of the heads, each once; what is not true of all heads names those that it is true of.

        Args:
            clinical: see `predict_files`.
        """
        said: dict[str, list[str]] = {}
        for head in self._heads:
            for line in remarks(head.info.clinical, clinical):
                said.setdefault(line, []).append(str(head.member.name))
        of_all = len(self._heads)
        return [line if len(names) == of_all else f"{enumerated(names)}: {line}" for line, names in said.items()]

    def predict_files(
        self, files: list[Path], tta: bool | None, clinical: pd.DataFrame | None = None
    ) -> Iterator[Predicted]:
        """Yield the predictions of files, FILES_AT_A_TIME; a bar on a terminal shows how many are done.

        Of several heads the probabilities are the mean. The predicted class is that of the largest mean of their
        adjusted probabilities, by which each head decides, see `adjust`.

        Args:
            files: of any names; folders are not looked into.
            tta: average over the views that a head was trained with, instead of the image alone; None does for each
                head as its report does, see `Member`.
            clinical: those of `age, sex, localization` that are known, a row a file; None is unknown.
        """
        known = pd.DataFrame(index=range(len(files))) if clinical is None else clinical
        passes = len(files) * len(self._backbones)  # an image counts once for each backbone
        with progress("predict", passes, in_logs=False) as bar:
            bar.leave = False  # the predictions are what stays
            for start in range(0, len(files), FILES_AT_A_TIME):
                block = slice(start, start + FILES_AT_A_TIME)
                yield self._predict_block(files[block], known[block], tta, bar)

    def _predict_block(self, files: list[Path], known: pd.DataFrame, tta: bool | None, bar: "tqdm[Any]") -> Predicted:
        def prepare(file: Path) -> list[NDArray[np.uint8]] | DataError:
            try:
                require_plain_name(file)
                pixels = decode(file.read_bytes(), file)
            except OSError as error:
                return DataError(f"{file}: {error.strerror or error}")
            except DataError as error:
                return error
            return [backbone.render(pixels, tta) for backbone in self._backbones]

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            prepared = list(zip(files, pool.map(prepare, files), strict=True))
        images = {file: views for file, views in prepared if not isinstance(views, DataError)}
        unreadable = [str(error) for _, error in prepared if isinstance(error, DataError)]
        bar.update(len(unreadable) * len(self._backbones))
        readable = known[[not isinstance(views, DataError) for _, views in prepared]]
        probabilities, adjusted, features = self._predict(list(images.values()), readable, tta, bar)
        table = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in self.classes])
        table.insert(0, "image", [str(file) for file in images])
        table.insert(1, "predicted", np.array(self.classes)[adjusted.argmax(axis=1)])
        return Predicted(table, unreadable, adjusted, features)

    def _predict(
        self, images: list[list[NDArray[np.uint8]]], known: pd.DataFrame, tta: bool | None, bar: "tqdm[Any]"
    ) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32]]:
        """Return the probabilities, (n, classes), the adjusted ones, and the features of the images alone by the first
        backbone, (n, dim), from the views of each image by backbone."""
        if not images:
            none = np.empty((0, len(self.classes)))
            return none.astype(np.float32), none, np.empty((0, 0), np.float32)
        each, alone = [], []
        for backbone, of_images in zip(self._backbones, zip(*images, strict=True), strict=True):
            features = backbone.features(tick(of_images, bar), len(of_images), tta)
            each += [head.predict(features, known, tta) for head in backbone.heads]
            alone.append(features[ALONE])
        adjusted = [
            adjust(probabilities, head.info.prior, head.member.prior_exponent)
            for probabilities, head in zip(each, self._heads, strict=True)
        ]
        mean, deciding = (np.average(of_heads, axis=0, weights=self._weights) for of_heads in (each, adjusted))
        return np.asarray(mean, np.float32), np.asarray(deciding, np.float64), alone[0]
