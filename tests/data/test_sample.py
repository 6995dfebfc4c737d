"""The sample source: what its images, labels and plan promise."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from cv2.typing import MatLike

from dermoscopy.data.sources import sample
from dermoscopy.data.sources.lesions import draw_lesion
from tests.support.params_file import PARAMS

COLUMNS = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
DIAGNOSES = {"akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"}


IMAGES = 60  # fewer than params.yaml may ask for, and still eight lesions of each diagnosis


def fetch(folder: Path) -> Path:
    """Draw IMAGES images and return the folder of the result."""
    data = PARAMS.data.model_copy(update={"source": "sample", "sample_images": IMAGES, "seed": 0})
    destination, work = folder / "raw", folder / "work"
    destination.mkdir(parents=True)
    work.mkdir()
    sample.fetch(data, destination, work)
    return destination


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> MatLike:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetch(tmp_path_factory.mktemp("sample"))


def test_same_seed_gives_the_same_bytes_on_any_number_of_threads(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    opencv_threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        again = contents(fetch(tmp_path))
    finally:
        cv2.setNumThreads(opencv_threads)
    assert again == contents(raw)


def test_another_seed_gives_other_images() -> None:
    assert not np.array_equal(draw_lesion("nv", 0, 1, 1), draw_lesion("nv", 1, 1, 1))


def test_no_two_images_are_the_same(raw: Path) -> None:
    images = [path.read_bytes() for path in (raw / "images").iterdir()]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("dx", sorted(DIAGNOSES))
def test_another_image_of_a_lesion_leaves_the_first_as_it_is(dx: str) -> None:
    (alone,) = draw_lesion(dx, 3, 5, 1)
    first, second = draw_lesion(dx, 3, 5, 2)
    assert np.array_equal(first, alone)
    assert not np.array_equal(first, second)


def test_there_are_exactly_as_many_images_as_asked_for_and_a_label_for_each(raw: Path) -> None:
    labels = pd.read_csv(raw / "labels.csv")
    assert len(labels) == IMAGES
    assert {path.name for path in (raw / "images").iterdir()} == {f"{image_id}.jpg" for image_id in labels["image_id"]}


def test_images_are_colour_jpegs_of_600_by_450(raw: Path) -> None:
    for path in (raw / "images").iterdir():
        assert path.read_bytes()[:3] == b"\xff\xd8\xff"
        assert read(path).shape == (450, 600, 3)


def test_skin_is_redder_than_it_is_blue(raw: Path) -> None:
    images = [read(path) for path in (raw / "images").iterdir()]
    blue, _, red = np.mean([image.mean(axis=(0, 1)) for image in images], axis=0)
    assert red > blue + 20


def test_labels_are_laid_out_like_the_ham10000_metadata(raw: Path) -> None:
    labels = pd.read_csv(raw / "labels.csv")
    assert list(labels) == COLUMNS
    assert labels["lesion_id"].str.fullmatch(r"HAM_\d{7}").all()
    assert labels["image_id"].str.fullmatch(r"ISIC_\d{7}").all()
    assert labels["image_id"].is_unique


def test_patients_are_described_in_the_words_of_ham10000() -> None:
    table = sample.plan(5000, seed=0)
    assert set(table["dx"]) == DIAGNOSES
    assert set(table["dx_type"]) == {"histo", "follow_up", "consensus", "confocal"}
    assert set(table["sex"]) == {"male", "female", "unknown"}
    assert {"back", "face", "trunk", "lower extremity", "upper extremity", "unknown"} < set(table["localization"])
    assert set(table["age"].dropna()) <= set(range(0, 90, 5))
    assert 0 < table["age"].isna().mean() < 0.05
    assert set(table.loc[table["dx_type"] == "follow_up", "dx"]) == {"nv"}


@pytest.mark.parametrize("images", [100, 101, 257, 1340, 10_015])
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_the_plan_keeps_its_promises_at_any_size(images: int, seed: int) -> None:
    table = sample.plan(images, seed)
    lesions = table.groupby("lesion_id")
    assert len(table) == images
    assert lesions.size().between(1, 3).all()
    assert len(table.drop(columns="image_id").drop_duplicates()) == len(lesions)
    assert set(table["dx"]) == DIAGNOSES
    assert (table.groupby("dx")["lesion_id"].nunique() >= 8).all()


def test_a_thousand_lesions_are_as_imbalanced_as_ham10000() -> None:
    table = sample.plan(1340, seed=0)
    assert table["lesion_id"].nunique() == pytest.approx(1000, abs=20)
    shares = table["dx"].value_counts(normalize=True)
    expected = {
        "nv": 0.6695,
        "mel": 0.1111,
        "bkl": 0.1097,
        "bcc": 0.0513,
        "akiec": 0.0327,
        "vasc": 0.0142,
        "df": 0.0115,
    }
    assert shares.to_dict() == pytest.approx(expected, abs=0.002)


def test_the_order_of_the_images_does_not_tell_the_diagnosis() -> None:
    dx = sample.plan(1340, seed=0).sort_values("image_id")["dx"]
    halves = [half.value_counts(normalize=True)["nv"] for half in (dx[:670], dx[670:])]
    assert halves[0] == pytest.approx(halves[1], abs=0.1)


def test_another_seed_gives_another_plan() -> None:
    assert not sample.plan(100, seed=0).equals(sample.plan(100, seed=1))
