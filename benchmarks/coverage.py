"""How often 95 % intervals hold the truth: of recall, specificity and balanced accuracy, in samples of made-up lesions.

Lesions have as many images as those of HAM10000. A lesion is right with a probability of its own, drawn from a beta
distribution whose mean is the true recall; its images are right independently with that probability. So two images of a
lesion are right with a correlation that can be set: at 0 they are independent, at 1 all right or all wrong. With a
linear classifier of MobileNetV2 features it was 0.54 for recall, over 4,485 images of HAM10000, and 0.2 to 0.6 for
the specificity of a class.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.timing import Row
from dermoscopy.scoring.bootstrap import Floats, bootstrap, interval
from dermoscopy.scoring.comparison import sign_flip_test
from dermoscopy.scoring.intervals import mean_interval, share_interval

SAMPLES = 1000  # the standard error of a coverage of 0.95 is then 0.007
MANY = 1000  # lesions or images
SAMPLES_OF_MANY = 300  # 0.013
DRAWS = 500
CORRELATIONS = (0, 0.5, 1)
# How many lesions of HAM10000 have one image, two, ... six.
LESIONS = {
    "akiec": (151, 57, 18, 2, 0, 0),
    "bcc": (175, 118, 33, 1, 0, 0),
    "bkl": (440, 220, 55, 8, 2, 2),
    "df": (39, 26, 8, 0, 0, 0),
    "mel": (230, 278, 100, 4, 1, 1),
    "nv": (4415, 699, 268, 18, 2, 1),
    "vasc": (64, 25, 8, 1, 0, 0),
}
ALL_IMAGES = 10_015
# Recalls of the classes in that order: a weak classifier, one as good as those published, and one bad at rare classes.
RECALLS = {
    "weak": (0.5, 0.6, 0.5, 0.5, 0.55, 0.75, 0.8),
    "good": (0.7, 0.85, 0.8, 0.8, 0.7, 0.9, 0.95),
    "bad at rare classes": (0.5, 0.9, 0.9, 0.5, 0.9, 0.97, 0.5),
}


class Sample(NamedTuple):
    """Lesions of one class: how many images each has, (lesions,), and how many of them are right."""

    images: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def share(self) -> float:
        """The share of the images that are right."""
        return float(self.right.sum() / self.images.sum())


Limits = tuple[float, float] | None


def measure() -> dict[str, list[Row]]:
    return {
        f"Recall: share of {SAMPLES} samples, {SAMPLES_OF_MANY} of large ones, whose interval holds the true one": [
            one_share("mel", lesions, recall, correlation)
            for lesions in (3, 7, 30)
            for recall in (0.5, 0.7, 0.9)
            for correlation in CORRELATIONS
        ],
        "Specificity, the same": [
            one_share("bkl", lesions, specificity, correlation)
            for lesions, specificity in ((80, 0.9), (80, 0.97), (1100, 0.97))
            for correlation in CORRELATIONS
        ],
        "Balanced accuracy, the same, with mean widths": [
            balanced_accuracy(images, name, correlation)
            for images in (113, 1500)
            for name in RECALLS
            for correlation in CORRELATIONS
        ],
        "Two runs that are equally good: share of samples in which they are called different": [
            false_alarms(images, correlation) for images in (113, 1500) for correlation in CORRELATIONS
        ],
    }


def one_share(label: str, lesions: int, truth: float, correlation: float) -> Row:
    """Return how often intervals of the share of images that are right hold the true one."""
    random = np.random.default_rng(1)
    held = []
    for _ in range(SAMPLES if lesions < MANY else SAMPLES_OF_MANY):
        sample = draw(random, label, lesions, truth, correlation)
        found = [
            percentiles([sample], random),
            share_interval(sample.share, int(sample.images.sum())),
            share_interval(sample.share, lesions),
        ]
        held.append([holds(limits, truth) for limits in found])
    names = ["bootstrap", "Wilson of images", "Wilson of lesions (ours)"]
    shares = dict(zip(names, np.mean(held, axis=0).tolist(), strict=True))
    return {"lesions": lesions, "truth": truth, "correlation": correlation, **shares}


def balanced_accuracy(images: int, classifier: str, correlation: float) -> Row:
    """Return how often intervals of a balanced accuracy hold the true one, and how wide they are on average."""
    random = np.random.default_rng(1)
    truth = float(np.mean(RECALLS[classifier]))
    held, widths = [], []
    for _ in range(SAMPLES if images < MANY else SAMPLES_OF_MANY):
        samples = draw_classes(random, images, RECALLS[classifier], correlation)
        shares, numbers = np.array([one.share for one in samples]), np.array([len(one.images) for one in samples])
        found = [
            percentiles(samples, random),
            jeffreys(shares, numbers, random),
            wilson_of_mean(shares, numbers),
            mean_interval(shares, numbers),
        ]
        held.append([holds(limits, truth) for limits in found])
        widths.append([limits[1] - limits[0] if limits else 0 for limits in found])
    row: Row = {"images": images, "classifier": classifier, "correlation": correlation}
    names = ["bootstrap", "Jeffreys", "Wilson", "Clopper-Pearson (ours)"]
    for name, share, width in zip(names, np.mean(held, axis=0), np.mean(widths, axis=0), strict=True):
        row |= {name: float(share), f"{name}, width": float(width)}
    return row


def false_alarms(images: int, correlation: float) -> Row:
    """Return how often the sign-flip test, and the bootstrap interval, tell two runs apart that are equally good.

    Half of the lesions are predicted alike by both runs, the others independently.
    """
    random = np.random.default_rng(1)
    alarms = []
    for number in range(SAMPLES if images < MANY else SAMPLES_OF_MANY):
        samples = draw_classes(random, images, RECALLS["good"], correlation)
        others = []
        for sample, recall in zip(samples, RECALLS["good"], strict=True):
            again = right_of(random, sample.images, recall, correlation)
            others.append(Sample(sample.images, np.where(random.random(len(again)) < 0.5, sample.right, again)))
        gains = [(new.right - old.right) / old.images.sum() for old, new in zip(samples, others, strict=True)]
        limits = percentiles(samples, random, others)
        test = sign_flip_test(np.concatenate(gains) / len(samples), number, DRAWS)
        alarms.append([test < 0.05, limits is not None and not holds(limits, 0)])
    sign_flips, intervals = np.mean(alarms, axis=0).tolist()
    return {"images": images, "correlation": correlation, "sign-flip test": sign_flips, "bootstrap interval": intervals}


def draw_classes(
    random: np.random.Generator, images: int, recalls: tuple[float, ...], correlation: float
) -> list[Sample]:
    """Return lesions of each class, as many as are expected in so many images of HAM10000, and at least one."""
    samples = []
    for (label, counts), recall in zip(LESIONS.items(), recalls, strict=True):
        lesions = max(1, round(images / ALL_IMAGES * sum(counts)))
        samples.append(draw(random, label, lesions, recall, correlation))
    return samples


def draw(random: np.random.Generator, label: str, lesions: int, truth: float, correlation: float) -> Sample:
    """Return lesions with as many images as those of a class."""
    counts = np.array(LESIONS[label])
    images = 1 + random.choice(len(counts), lesions, p=counts / counts.sum())
    return Sample(images, right_of(random, images, truth, correlation))


def right_of(
    random: np.random.Generator, images: NDArray[np.int64], truth: float, correlation: float
) -> NDArray[np.int64]:
    """Return how many images of each lesion are right."""
    if correlation == 0:
        return random.binomial(images, truth)
    if correlation == 1:
        return images * random.binomial(1, truth, len(images))
    strength = 1 / correlation - 1
    return random.binomial(images, random.beta(truth * strength, (1 - truth) * strength, len(images)))


def percentiles(samples: list[Sample], random: np.random.Generator, others: list[Sample] | None = None) -> Limits:
    """Return the bootstrap interval of the mean recall of classes; or, with `others`, of theirs minus these."""
    images, right = ([getattr(one, name).astype(np.float64) for one in samples] for name in ("images", "right"))
    if others is not None:
        right = [new.right - old for new, old in zip(others, right, strict=True)]
    ends = np.cumsum([len(one) for one in images])[:-1]

    def statistic(weights: Floats) -> dict[str, Floats]:
        of_classes = list(zip(np.split(weights, ends, axis=1), images, right, strict=True))
        support = np.stack([weight @ each for weight, each, _ in of_classes])
        found = np.stack([weight @ each for weight, _, each in of_classes])
        return {
            "mean": np.where(support > 0, found / np.maximum(support, 1), 0).sum(axis=0) / (support > 0).sum(axis=0)
        }

    names = pd.Series(np.arange(sum(map(len, images))).astype(str))
    return interval(bootstrap(statistic, names, int(random.integers(2**32)), DRAWS)["mean"])


def jeffreys(shares: Floats, numbers: NDArray[np.int64], random: np.random.Generator) -> Limits:
    """Return percentiles of the mean of recalls that are drawn from their posteriors with Jeffreys' prior."""
    size = (DRAWS, len(shares))
    return interval(random.beta(shares * numbers + 0.5, (1 - shares) * numbers + 0.5, size).mean(axis=1))


def wilson_of_mean(shares: Floats, numbers: NDArray[np.int64]) -> Limits:
    """Return what `mean_interval` does, with Wilson's limits."""
    limits = np.array([share_interval(share, number) for share, number in zip(shares, numbers, strict=True)])
    below, above = np.sqrt(((limits - shares[:, None]) ** 2).sum(axis=0)) / len(shares)
    return float(shares.mean() - below), float(shares.mean() + above)


def holds(limits: Limits, truth: float) -> bool:
    return limits is not None and limits[0] <= truth <= limits[1]
