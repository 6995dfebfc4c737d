"""Photographs of the same lesion, found by their content: by their features, then by keypoints that fit one on another.

Features alone cannot tell another photograph of a lesion from a similar lesion, and to compare the keypoints of all
pairs of images takes too long. So features name the candidates, and keypoints (SIFT: Lowe, IJCV 60, 2004) decide.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize
from threadpoolctl import threadpool_limits

from dermoscopy.data.images import decode_checked
from dermoscopy.data.storage import read_ahead
from dermoscopy.features.store import FeatureReader
from dermoscopy.runtime.progress import progress, tick
from dermoscopy.runtime.threads import map_ahead

# Measured on HAM10000 (224 x 224 pixels, MobileNetV2, the mean of 9 views) against the lesions of its label table: of
# its pairs of one lesion, 51 % are found among 5 neighbours, 55 % among 10, 59 % among 20 and 62 % among 30, in a time
# that grows as they do. A least cosine would save nothing: all that are found have 0.32 or more, as nearly all
# candidates do.
NEIGHBOURS = 30
SIDE = 300  # pixels of the longer side, to which larger images are reduced
KEYPOINTS = 400  # of an image, the strongest
CONTRAST = 0.01  # a quarter of OpenCV's default, for skin is smooth
RATIO = 0.8  # of the distances to the nearest and the second nearest descriptor
TOLERANCE = 3.0  # pixels between a keypoint and where the transformation puts it
# Chosen on half of the lesions: precision 0.806 at 5, 0.979 at 6, 0.983 at 8 and 0.988 at 12, recall 0.635, 0.629,
# 0.622 and 0.595. No pair of ISIC 2018 has 6 or 7. On the other half, 8 has precision 0.973 and recall 0.616.
INLIERS = 8


class Keypoints(NamedTuple):
    """Where the n keypoints of an image are, (n, 2) float32 pixels, and how they look, (n, 128) uint8."""

    places: NDArray[np.float32]
    descriptors: NDArray[np.uint8]


def find_pairs(manifest: pd.DataFrame, features: FeatureReader) -> pd.DataFrame:
    """Return the pairs of images that show the same lesion.

    Args:
        manifest: `image_id, path, sha256` of two images or more.
        features: of these images.

    Returns:
        `first` and `second`, row numbers of the manifest with first < second, in this order; `cosine`, of their
        standardised features, -1 to 1; and `inliers`, INLIERS or more.

    Raises:
        DataError: an image has no features, cannot be read or has changed.
    """
    directions = feature_directions(features, features.rows(manifest["image_id"]))
    candidates = candidate_pairs(directions)
    keypoints = read_keypoints(manifest)
    inliers = verify_pairs(candidates, keypoints)
    first, second = candidates[inliers >= INLIERS].T
    cosine = np.einsum("ij,ij->i", directions[first], directions[second])
    return pd.DataFrame(
        {"first": first, "second": second, "cosine": cosine, "inliers": inliers[inliers >= INLIERS]},
    )


def feature_directions(features: FeatureReader, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the features of images, standardised in each dimension and of length 1: (len(rows), dim).

    They are the mean over all views, which changes less than view 0 when a camera is turned.
    """
    total = np.zeros((len(rows), features.info.dim), np.float32)
    for view in range(features.info.views):
        total += features.view(view, rows)
    return np.asarray(normalize(StandardScaler().fit_transform(total)))


def candidate_pairs(directions: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return each image with its NEIGHBOURS nearest ones by cosine: (pairs, 2) row numbers, sorted, no pair twice."""
    count = len(directions)
    search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, count - 1), metric="cosine").fit(directions)
    nearest = search.kneighbors(return_distance=False)  # without the images themselves
    pairs = np.column_stack([np.repeat(np.arange(count), nearest.shape[1]), nearest.ravel()])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def read_keypoints(manifest: pd.DataFrame) -> list[Keypoints]:
    """Return the keypoints of each image of the manifest; a DataError if one cannot be read or has changed."""
    paths = manifest["path"].tolist()

    def detect(image: tuple[str, str, bytes]) -> Keypoints:
        path, sha256, content = image
        return detect_keypoints(decode_checked(content, path, sha256))

    with (
        progress("keypoints", len(manifest)) as bar,
        read_ahead(paths) as contents,
        ThreadPoolExecutor(os.cpu_count()) as detecting,
    ):
        images = zip(paths, manifest["sha256"], contents, strict=True)
        return list(tick(map_ahead(detecting, detect, images, ahead=4 * (os.cpu_count() or 1)), bar))


def detect_keypoints(pixels: NDArray[np.uint8]) -> Keypoints:
    """Return the keypoints of an image, (height, width, 3) RGB; KEYPOINTS of them at most, but for ties."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if (factor := SIDE / max(grey.shape)) < 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT.create(KEYPOINTS, 3, CONTRAST, 10, 1.6, cv2.CV_8U)  # 3, 10 and 1.6 are OpenCV's defaults
    found, descriptors = sift.detectAndCompute(grey, None)
    if not found:
        return Keypoints(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    return Keypoints(np.asarray(cv2.KeyPoint.convert(found), np.float32), np.asarray(descriptors, np.uint8))


def verify_pairs(pairs: NDArray[np.intp], keypoints: list[Keypoints]) -> NDArray[np.intp]:
    """Return `count_inliers` of each pair; `pairs`, (n, 2), is sorted."""
    seconds = np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, len(keypoints))))

    def verify(first: int) -> list[int]:
        return [count_inliers(keypoints[first], keypoints[second]) for second in seconds[first]]

    inliers: list[int] = []
    # each thread has pairs of its own; with threads in the matrix product too it takes fourteen times as long
    with progress("pairs", len(keypoints)) as bar, threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool:
        for counts in pool.map(verify, range(len(keypoints))):
            inliers += counts
            bar.update()
    return np.array(inliers, np.intp)


def count_inliers(one: Keypoints, other: Keypoints) -> int:
    """Return how many places of an image one affine transformation puts where the other image looks the same.

    Affine, not of a rigid turn, because a camera is tilted and images may have been squeezed to a square. OpenCV's
    RANSAC begins each time with the same seed, so the same keypoints give the same number in any thread.
    """
    if min(len(one.places), len(other.places)) < 2:
        return 0
    nearest, kept = match_descriptors(one.descriptors, other.descriptors)
    start, end = one.places[kept], other.places[nearest[kept]]
    if len(start) < INLIERS:
        return 0
    _, fits = cv2.estimateAffine2D(start, end, method=cv2.RANSAC, ransacReprojThreshold=TOLERANCE)
    inside = fits.ravel() == 1
    # a place may have several keypoints, of other sizes and directions
    return min(len(np.unique(places[inside].round(), axis=0)) for places in (start, end))


def match_descriptors(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the nearest descriptor in `other` of each in `one`, and whether it passes Lowe's ratio test: (len(one),).

    A matrix product takes a fifth of the time of OpenCV's BFMatcher. All its sums are whole numbers below 2**24, so
    float32 is exact and their order does not matter.
    """
    a, b = one.astype(np.float32), other.astype(np.float32)
    squared = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    rows, nearest = np.arange(len(a)), squared.argmin(axis=1)
    smallest = squared[rows, nearest]
    squared[rows, nearest] = np.inf  # the next smallest is then found in a tenth of np.partition's time
    return nearest, smallest < RATIO**2 * squared.min(axis=1)


def connect_pairs(pairs: NDArray[np.intp], images: int) -> NDArray[np.int32]:
    """Return a group number, (images,), for each image; images that a chain of `pairs`, (n, 2), connects share it."""
    edges = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(images, images))
    _, component = connected_components(edges, directed=False)
    return component
