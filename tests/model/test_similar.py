"""Similar images: the search is exact, and what is no dermoscopic image is farther away than those that are."""

from pathlib import Path
from typing import Any

import cv2
import gradio
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from sklearn.metrics.pairwise import cosine_similarity

from dermoscopy.data.images import read_image
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.features.networks import build_backbone, write_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.head import Head
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.model.similar import ACCEPTED, TrainingImages
from dermoscopy.runtime.errors import DataError
from tests.support.feature_folder import write_feature_folder

IMAGES, DIM, CLINICAL = 300, 32, 3


def head_of(training: NDArray[np.float32], clinical: int = 0) -> Head:
    """Return a head that standardises these features, and clinical numbers behind them."""
    behind = np.ones(clinical, np.float32)
    mean = np.concatenate([training.mean(axis=0), 7 * behind])
    deviation = np.concatenate([np.maximum(training.std(axis=0), 1e-6), 9 * behind])
    return Head(mean, deviation, np.zeros((len(mean), 2), np.float32), np.zeros(2, np.float32))


def table_of(count: int) -> pd.DataFrame:
    names = [f"image_{number}" for number in range(count)]
    return pd.DataFrame({"image_id": names, "label": ["mel", "nv"] * (count // 2), "path": names, "sha256": "0"})


@pytest.fixture(scope="module")
def features() -> NDArray[np.float32]:
    """(IMAGES, DIM), in eight directions of very different scales, and a little of everything else."""
    random = np.random.default_rng(1)
    directions = random.normal(size=(8, DIM)) * np.geomspace(1, 100, DIM)
    noise = 0.1 * random.normal(size=(IMAGES, DIM)) * np.geomspace(1, 100, DIM)
    return (random.normal(size=(IMAGES, 8)) @ directions + noise + 5).astype(np.float32)


@pytest.fixture(scope="module")
def training(features: NDArray[np.float32]) -> TrainingImages:
    return TrainingImages(head_of(features[:200]), table_of(200), features[:200], features[200:])


def test_the_most_similar_images_are_those_of_the_largest_cosine(
    training: TrainingImages, features: NDArray[np.float32]
) -> None:
    mean, deviation = features[:200].mean(axis=0), features[:200].std(axis=0)
    cosines = cosine_similarity((features[200:] - mean) / deviation, (features[:200] - mean) / deviation)
    for row, found in zip(cosines, training.most_similar(features[200:], count=5), strict=True):
        order = np.argsort(-row)[:5]
        assert [similar.image_id for similar in found] == [f"image_{place}" for place in order]
        assert [similar.label for similar in found] == [["mel", "nv"][place % 2] for place in order]
        assert np.allclose([similar.cosine for similar in found], row[order], atol=1e-5)


def test_a_training_image_is_the_most_similar_one_to_itself(
    training: TrainingImages, features: NDArray[np.float32]
) -> None:
    for number, (first, *_) in enumerate(training.most_similar(features[:50])):
        assert first.image_id == f"image_{number}"
        assert first.cosine == pytest.approx(1, abs=1e-5)


def test_of_fewer_images_all_are_named(features: NDArray[np.float32]) -> None:
    few = TrainingImages(head_of(features[:4]), table_of(4), features[:4], features[4:8])
    (found,) = few.most_similar(features[9:10])
    assert {similar.image_id for similar in found} == {f"image_{number}" for number in range(4)}


def test_clinical_numbers_behind_the_features_change_nothing(
    training: TrainingImages, features: NDArray[np.float32]
) -> None:
    with_clinical = TrainingImages(head_of(features[:200], CLINICAL), table_of(200), features[:200], features[200:])
    assert with_clinical.most_similar(features[200:]) == training.most_similar(features[200:])
    assert with_clinical.limit == training.limit


def test_the_limit_is_what_nearly_all_held_out_images_keep_to(
    training: TrainingImages, features: NDArray[np.float32]
) -> None:
    assert (training.distance(features[200:]) <= training.limit).mean() == pytest.approx(ACCEPTED)


def test_the_distance_is_the_share_outside_the_directions_of_the_training_images(
    training: TrainingImages, features: NDArray[np.float32]
) -> None:
    inside = training.distance(features[200:])
    elsewhere = np.random.default_rng(2).normal(size=(50, DIM)).astype(np.float32) * features[:200].std(axis=0)
    outside = training.distance(features[200:250] + 3 * elsewhere)
    assert 0 <= inside.min() < inside.max() < 0.5 < outside.mean() < 1
    assert (outside > training.limit).all()
    # it is about the direction: an image of twice the contrast is as near
    mean = features[:200].mean(axis=0)
    assert np.allclose(training.distance(2 * (features[200:] - mean) + mean), inside, atol=1e-5)


def test_it_is_read_from_what_the_pipeline_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: NDArray[np.float32], training: TrainingImages
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    reader = write_feature_folder(Path("data/features"), np.stack([features, features[::-1]], axis=1))
    table_of(IMAGES).to_csv("data/manifest.csv", index=False)
    parts = ["train"] * 200 + ["validation"] * 100
    split = pd.DataFrame({"image_id": table_of(IMAGES)["image_id"], "part": parts})
    split[::-1].to_csv("data/split.csv", index=False)
    info = HeadInfo(
        classes=["mel", "nv"],
        prior=[0.5, 0.5],
        class_weights=[1, 1],
        backbone=reader.info.backbone,
        augmentation=reader.info.augmentation,
    )
    read = TrainingImages.read(head_of(features[:200]), info, reader)
    assert read.most_similar(features[200:]) == training.most_similar(features[200:])
    assert read.limit == training.limit
    with pytest.raises(DataError, match="another backbone than models/head"):
        TrainingImages.read(head_of(features[:200]), info.model_copy(update={"backbone": "another"}), reader)


def other_things() -> dict[str, NDArray[np.uint8]]:
    """Return photographs of other things, blank pages and a page of text, by name."""
    pages = {f"blank {shade}": np.full((300, 400, 3), shade, np.uint8) for shade in (0, 128, 255)}
    text = np.full((400, 300, 3), 250, np.uint8)
    for line in range(12):
        cv2.putText(text, "Invoice 2024", (10, 30 + 30 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (20, 20, 20), 1)
    folder = Path(gradio.__file__).parent / "media_assets/images"
    photographs = {name: read_image(folder / f"{name}.jpg") for name in ("cheetah", "lion", "tower")}
    china, flower = load_sample_images().images
    return pages | photographs | {"text": text, "china": china, "flower": flower}


@pytest.mark.slow
def test_what_is_no_dermoscopic_image_is_farther_than_the_limit_and_few_dermoscopic_images_are(
    keras: Any, shared: Path, mobilenet_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "backbone").mkdir()
    write_backbone(build_backbone("MobileNetV2", str(mobilenet_weights), 224), "MobileNetV2", tmp_path / "backbone")
    engine = load_engine("openvino", tmp_path / "backbone")

    def features_of(images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return engine.compute((render_views(pixels, [Warp()], 224)[0] for pixels in images), len(images))

    paths = sorted((shared / "data/ham10000/images").iterdir())[::10]
    ham = features_of([read_image(path) for path in paths])
    training = TrainingImages(head_of(ham[:600]), table_of(600), ham[:600], ham[600:800])
    assert (training.distance(ham[800:]) > training.limit).mean() < 0.05
    things = other_things()
    distances = dict(zip(things, training.distance(features_of(list(things.values()))), strict=True))
    assert {name for name, distance in distances.items() if distance <= training.limit} == set()
