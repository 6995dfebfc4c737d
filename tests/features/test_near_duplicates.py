"""Photographs of the same lesion: which pairs are tried, and what makes one."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.images import read_image
from dermoscopy.features import near_duplicates
from dermoscopy.features.near_duplicates import (
    INLIERS,
    KEYPOINTS,
    NEIGHBOURS,
    SIDE,
    Keypoints,
    candidate_pairs,
    connect_pairs,
    count_inliers,
    detect_keypoints,
    find_pairs,
    match_descriptors,
)
from dermoscopy.features.store import FeatureReader
from dermoscopy.runtime.errors import DataError
from tests.support.photographs import photograph
from tests.support.same_lesions import IMAGE_IDS, PAIRS, photograph_again, write_same_lesions

# Of the ISIC 2018 test images, as a person sees them.
SAME = ["34687 35229", "35846 35968", "35414 35460", "35399 35581", "35749 35784", "35651 35913", "34813 34856"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine drawn photographs of six lesions, with features; tests do not change it."""
    folder = tmp_path_factory.mktemp("same_lesions")
    write_same_lesions(folder)
    return folder


def pairs_of(project: Path, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs among some images of a project."""
    with chdir(project):
        return find_pairs(manifest, FeatureReader())


@pytest.fixture(scope="module")
def manifest(project: Path) -> pd.DataFrame:
    return pd.read_csv(project / "data/manifest.csv")


@pytest.mark.parametrize(("angle", "scale", "gain"), [(0, 1, 1.2), (90, 1, 0.8), (37, 0.6, 1), (200, 1.6, 1.1)])
@pytest.mark.parametrize("lesion", [1, 4, 7])
def test_a_turned_scaled_or_brighter_photograph_is_of_the_same_lesion(
    lesion: int, angle: float, scale: float, gain: float
) -> None:
    again = photograph_again(photograph(lesion), angle, scale, gain)
    assert count_inliers(detect_keypoints(photograph(lesion)), detect_keypoints(again)) >= 2 * INLIERS


def test_a_photograph_squeezed_to_a_square_is_of_the_same_lesion() -> None:
    one = cv2.resize(photograph(1), (224, 224), interpolation=cv2.INTER_AREA)
    other = cv2.resize(photograph_again(photograph(1), 60, 0.8), (224, 224), interpolation=cv2.INTER_AREA)
    found = [detect_keypoints(np.asarray(pixels, np.uint8)) for pixels in (one, other)]
    assert count_inliers(*found) >= 2 * INLIERS


def test_photographs_of_different_lesions_are_not() -> None:
    keypoints = [detect_keypoints(photograph(lesion)) for lesion in range(1, 13)]
    counts = [count_inliers(one, other) for n, one in enumerate(keypoints) for other in keypoints[:n]]
    assert len(counts) == 66
    assert max(counts) < INLIERS


def test_a_photograph_without_any_detail_is_like_no_other() -> None:
    plain = detect_keypoints(np.full((450, 600, 3), 200, np.uint8))
    assert (plain.places.shape, plain.descriptors.shape) == ((0, 2), (0, 128))
    assert count_inliers(plain, plain) == 0
    assert count_inliers(plain, detect_keypoints(photograph(1))) == 0


def test_a_place_counts_once_however_many_keypoints_it_has() -> None:
    found = detect_keypoints(photograph(1))
    once = count_inliers(found, found)
    twice = Keypoints(np.concatenate([found.places] * 2), np.concatenate([found.descriptors] * 2))
    assert count_inliers(twice, found) == once <= KEYPOINTS


def test_the_keypoints_of_a_large_photograph_are_those_of_a_smaller_one() -> None:
    large = detect_keypoints(np.asarray(cv2.resize(photograph(1), (2400, 1800)), np.uint8))
    assert large.places.max() <= SIDE
    assert count_inliers(large, detect_keypoints(photograph(1))) >= 2 * INLIERS


def test_descriptors_match_as_opencv_matches_them() -> None:
    one, other = (detect_keypoints(photograph(lesion)).descriptors for lesion in (1, 2))
    nearest, kept = match_descriptors(one, other)
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(one, other, k=2)
    assert kept.tolist() == [best.distance < near_duplicates.RATIO * second.distance for best, second in pairs]
    assert nearest[kept].tolist() == [best.trainIdx for (best, _), is_kept in zip(pairs, kept, strict=True) if is_kept]


def test_each_image_is_tried_with_its_nearest_ones_and_no_pair_twice() -> None:
    random = np.random.default_rng(0)
    directions = random.normal(size=(100, 5)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    pairs = candidate_pairs(directions)
    cosine = directions @ directions.T
    np.fill_diagonal(cosine, -2)
    nearest = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS]
    assert {tuple(pair) for pair in pairs} == {tuple(sorted((a, b))) for a in range(100) for b in nearest[a]}
    assert pairs.tolist() == sorted(pairs.tolist())
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_of_few_images_all_pairs_are_tried() -> None:
    assert candidate_pairs(np.eye(3, dtype=np.float32)).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_exactly_the_photographs_of_one_lesion_are_found(project: Path, manifest: pd.DataFrame) -> None:
    pairs = pairs_of(project, manifest)
    assert [
        (IMAGE_IDS[one], IMAGE_IDS[other]) for one, other in zip(pairs["first"], pairs["second"], strict=True)
    ] == PAIRS
    assert (pairs["inliers"] >= INLIERS).all()
    assert pairs["cosine"].between(0.8, 1).all()


def test_images_without_a_pair_give_an_empty_table(project: Path, manifest: pd.DataFrame) -> None:
    pairs = pairs_of(project, manifest[manifest["image_id"].isin(["ISIC_3", "ISIC_5"])])
    assert list(pairs.columns) == ["first", "second", "cosine", "inliers"]
    assert pairs.empty


def test_neither_threads_nor_the_random_numbers_of_opencv_change_a_count() -> None:
    keypoints = [detect_keypoints(photograph(lesion)) for lesion in range(1, 9)]
    again = [detect_keypoints(photograph_again(photograph(lesion), 50, 0.7)) for lesion in range(1, 9)]
    expected = list(map(count_inliers, keypoints, again))

    def count(seed: int) -> list[int]:
        cv2.setRNGSeed(seed)
        return list(map(count_inliers, keypoints, again))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(count, range(8))) == [expected] * 8


def test_an_image_that_has_changed_is_an_error(tmp_path: Path) -> None:
    manifest = write_same_lesions(tmp_path)
    path = tmp_path / manifest["path"][3]
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"ISIC_4\.jpg has changed since"):
        pairs_of(tmp_path, manifest)


def test_an_image_without_features_is_an_error(project: Path, manifest: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="image stranger has no features"):
        pairs_of(project, manifest.replace({"image_id": {"ISIC_3": "stranger"}}))


def test_a_chain_of_pairs_is_one_group() -> None:
    groups = connect_pairs(np.array([[0, 3], [3, 5], [1, 2]]), 6)
    assert groups[[3, 5]].tolist() == [groups[0]] * 2
    assert groups[1] == groups[2]
    assert len(set(groups)) == 3


def test_without_pairs_each_image_is_its_own_group() -> None:
    assert len(set(connect_pairs(np.empty((0, 2), int), 4))) == 4


@pytest.mark.slow
def test_real_photographs_of_one_lesion_are_told_from_those_of_others(isic: Path) -> None:
    names = [pair.split() for pair in SAME]
    keypoints = [[detect_keypoints(read_image(isic / f"images/ISIC_00{n}.jpg")) for n in pair] for pair in names]
    assert min(count_inliers(one, other) for one, other in keypoints) >= 2 * INLIERS
    others = [
        count_inliers(a, b) for n, pair in enumerate(keypoints) for rest in keypoints[:n] for a in pair for b in rest
    ]
    assert max(others) < INLIERS
