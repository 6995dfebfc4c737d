"""What the model says of one image, and why: all that the page shows, without the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dermoscopy.data.diagnoses import malignant_classes
from dermoscopy.data.images import decode, read_image, shrink
from dermoscopy.data.storage import is_there
from dermoscopy.data.tables import read_json, read_table
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.store import FeatureReader
from dermoscopy.features.views import render_views
from dermoscopy.model.activation_maps import LastMaps, heat
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.decision import choose_class
from dermoscopy.model.head import load_head, require_same_backbone
from dermoscopy.model.members import ALONE, LoadedHead, Member, warp_of
from dermoscopy.model.similar import Similar, TrainingImages
from dermoscopy.page.facts import data_version
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.params import Params
from dermoscopy.runtime.paths import MANIFEST, SPLIT, STATISTICS
from dermoscopy.scoring.calibration import Calibration, apply_calibration
from dermoscopy.scoring.metrics import read_metrics

Picture = NDArray[np.uint8]
SIDE, THUMBNAIL = 800, 200  # pixels of the longer side
EXAMPLES = 2  # of each class


class Example(NamedTuple):
    """An image that was not learnt from, and its diagnosis."""

    image_id: str
    label: str
    path: str


class SimilarImage(NamedTuple):
    """A training image with its picture; None where its file is not here."""

    similar: Similar
    picture: Picture | None


@dataclass(frozen=True)
class Answer:
    """What the model says of an image.

    Attributes:
        predicted: the class that it decides for, as `tools.predict` and the report do.
        probabilities: of each class, calibrated where the run is; the mean over the views that the report scores.
        malignant: the sum over the malignant classes; None where there are none, or it is not known which they are.
        picture: the image, (height, width, 3), SIDE pixels at most.
        heat: what each place of the image adds to each class, in colours: pictures of the same proportions; {} where
            the network has a single place for the whole image.
        clinical: what is known of the patient adds to the logit of each class, beside the mean of all classes; {} where
            nothing of it is used.
        image_only: the probabilities had nothing been known of the patient; {} where nothing of it is used.
        similar: the most similar training images.
        distance: how far the image is from all training images, 0 to 1.
        unusual: whether nearly no image of the kind of the training images is as far.
    """

    predicted: str
    probabilities: dict[str, float]
    malignant: float | None
    picture: Picture
    heat: dict[str, Picture]
    clinical: dict[str, float]
    image_only: dict[str, float]
    similar: list[SimilarImage]
    distance: float
    unusual: bool


class Answers:
    """The trained model of the current folder, loaded; several threads may ask it at once.

    Attributes:
        classes: in the order of the probabilities.
        encoder: which clinical variables the head uses, and their values; None where it uses none.
        malignant: the classes that screening must find; none where it is not known which they are.
        backbone: the name of the network and its input, in words.
        dataset: the name of the data set, if it is a known one.
        drawn: whether the images are drawn by a program.
        random: whether the network's weights are.
        version: of the data.
        views: how many views of an image are averaged.
        calibrated: whether the probabilities are.
        exponent: of the decision rule, see `adjust`.
        limit: of the distance, see `TrainingImages`.
        examples: EXAMPLES of each class that the model did not learn from, and whose files are here.
    """

    def __init__(self, params: Params) -> None:
        """Load all; a PipelineError if a file of the pipeline is missing, damaged, or does not belong to the others."""
        head, info = load_head()
        folder = final_backbone()
        backbone = read_backbone_info(folder)
        require_same_backbone(head, info, backbone)
        evaluate = params.evaluate
        self._head = LoadedHead(head, info, Member(evaluate.prior_exponent, tta=evaluate.tta))
        self._maps = LastMaps(folder)
        self._training = TrainingImages.read(head, info, FeatureReader(views=0))
        scores = list(read_metrics().values())[-1]
        self._calibration: Calibration | None = None
        if scores.temperature is not None and scores.biases is not None:
            self._calibration = Calibration(scores.temperature, scores.biases)
        manifest = read_table(MANIFEST, "image_id", "label", "path", "sha256")
        self.classes = info.classes
        self.encoder: ClinicalEncoder | None = info.clinical
        malignant, unknown = malignant_classes(info.classes, evaluate.malignant)
        self.malignant = [] if unknown else malignant
        self.backbone = f"{backbone.name}, {backbone.sizes_in_words} pixels"
        self._side = backbone.side
        self.dataset: str | None = read_json(STATISTICS).get("dataset")
        self.drawn = params.data.source == "sample"
        self.random = params.backbone.weights == "random"
        self.version = data_version(manifest)
        self.views = len(self._head.views(None))
        self.exponent = evaluate.prior_exponent
        self.calibrated = self._calibration is not None
        self.limit = self._training.limit
        self.examples = choose_examples(manifest.merge(read_table(SPLIT, "image_id", "part"), on="image_id"))

    def answer(self, content: bytes, name: str, known: Mapping[str, float | str]) -> Answer:
        """Return what the model says.

        Args:
            content: of an image file.
            name: of the file, for messages.
            known: those of `age` (years), `sex` and `localization` (lower-case) that are known of the patient.

        Raises:
            DataError: the content is not an image that can be used.
        """
        pixels = decode(content, name)
        patient = pd.DataFrame([known], index=[0])
        views = self._head.views(None)
        rendered = render_views(pixels, [warp_of(view) for view in views], self._side)
        maps = [self._maps.maps(view) for view in rendered]
        features = {view: of_view.mean(axis=(0, 1))[None] for view, of_view in zip(views, maps, strict=True)}
        probabilities = self._head.predict(features, patient, None)
        chosen = choose_class(probabilities, self._head.info.prior, self._head.member.prior_exponent)
        shown = self._calibrated(probabilities)
        picture = shrink(pixels, SIDE)
        activation = self._head.head.activation_maps(maps[0])
        clinical, image_only = {}, {}
        if self.encoder and known:
            shift = self._head.head.shift(self.encoder.encode(patient))[0]
            clinical = self._by_class(shift - shift.mean())
            image_only = self._calibrated(self._head.predict(features, pd.DataFrame(index=[0]), None))
        alone = features[ALONE]
        distance = float(self._training.distance(alone)[0])
        return Answer(
            predicted=self.classes[chosen[0]],
            probabilities=shown,
            malignant=sum(shown[label] for label in self.malignant) if self.malignant else None,
            picture=picture,
            heat={
                label: heat(activation[:, :, place], *shrink(picture, 2 * THUMBNAIL).shape[:2])
                for place, label in enumerate(self.classes)
                if activation[:, :, place].size > 1
            },
            clinical=clinical,
            image_only=image_only,
            similar=[with_picture(similar) for similar in self._training.most_similar(alone)[0]],
            distance=distance,
            unusual=distance > self.limit,
        )

    def _calibrated(self, probabilities: NDArray[np.float32]) -> dict[str, float]:
        table = pd.DataFrame(probabilities.astype(np.float64), columns=[f"p_{label}" for label in self.classes])
        if self._calibration:
            table = apply_calibration(table, self._calibration)
        return self._by_class(table.to_numpy()[0])

    def _by_class(self, values: NDArray[np.float64]) -> dict[str, float]:
        return dict(zip(self.classes, map(float, values), strict=True))


def choose_examples(images: pd.DataFrame) -> list[Example]:
    """Return EXAMPLES of each class of the test part, or of the validation part where there is none.

    Args:
        images: `image_id, label, path, part`.
    """
    held_out = next(
        (part for name in ("test", "validation") if len(part := images[images["part"] == name])), images[:0]
    )
    rows = held_out.groupby("label").head(4 * EXAMPLES)[["image_id", "label", "path"]]
    try:
        here = rows[[is_there(path) for path in rows["path"]]]
    except PipelineError:  # of a storage that cannot be reached
        here = rows[:0]
    return [Example(*row) for row in here.groupby("label").head(EXAMPLES).itertuples(index=False, name=None)]


def with_picture(similar: Similar) -> SimilarImage:
    """Return a training image with its picture, if its file is here and as it was."""
    try:
        return SimilarImage(similar, shrink(read_image(similar.path, similar.sha256), THUMBNAIL))
    except PipelineError:
        return SimilarImage(similar, None)
