"""Assign every image to a part or a fold: stratified by label, no patient, lesion or file in two of them."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from dermoscopy.data.groups import UNITS, unit_of
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Split


def assign_parts(manifest: pd.DataFrame, split: Split) -> "pd.Series[str]":
    """Return the part of each image of the manifest: train, validation or test.

    Groups that must stay together are drawn, stratified by `stratum`, with scikit-learn's StratifiedShuffleSplit:
    first the test part, then validation from what remains.

    Raises:
        DataError: a class is too rare to appear in every part; the message names it and its count.
    """
    unit = unit_of(manifest, split)
    group = group_images(manifest, unit)
    fractions = {"test": split.test, "validation": split.validation}
    wanted = {part: fraction for part, fraction in fractions.items() if fraction > 0}
    groups_of = pd.Series(group).groupby(manifest["label"].to_numpy()).nunique()
    label = stratum(manifest["label"], group, groups_of, unit, parts=len(wanted) + 1)

    def too_rare(missing: str) -> DataError:
        remedy = ", or enlarge split.validation and split.test" if groups_of[missing] > len(wanted) else ""
        return DataError(
            f"class {missing} has {groups_of[missing]} of {len(label)} {unit}s, too few to appear in every part: add "
            f"images of it, or leave the class out of the labels{remedy}"
        )

    if groups_of.min() <= len(wanted) and unit == "patient":
        raise too_rare(str(groups_of.idxmin()))
    rarest = label.value_counts().index[-1]
    if (label == rarest).sum() <= len(wanted):
        raise too_rare(rarest)
    part_of_group = pd.Series("train", index=label.index)
    for part, fraction in wanted.items():
        rest = label[part_of_group == "train"]
        size = round(fraction * len(label))  # a share of the whole, not of what is left
        rarest = rest.value_counts().index[-1]
        if size > len(rest) - label.nunique():
            raise DataError(
                f"split.validation and split.test leave too few of {len(label)} {unit}s to train "
                f"{label.nunique()} classes on: lower them"
            )
        if (rest == rarest).sum() < 2 or size < label.nunique():
            raise too_rare(rarest)
        splitter = StratifiedShuffleSplit(n_splits=1, test_size=size, random_state=split.seed)
        _, chosen = next(splitter.split(rest, rest))
        part_of_group[rest.index[chosen]] = part
    for part in [*wanted, "train"]:
        for missing in sorted(set(label) - set(label[part_of_group == part])):
            raise too_rare(missing)
    part_of_image = pd.Series(part_of_group.reindex(group).to_numpy(), manifest.index)
    # a group may stand for another label than some of its images have
    for part in [*wanted, "train"] if unit == "patient" else ["train"]:
        for missing in sorted(set(manifest["label"]) - set(manifest["label"][part_of_image == part])):
            raise DataError(
                f"class {missing} has no {'training' if part == 'train' else part} image: its images are in {unit}s "
                "that have mostly other labels: "
                "correct these labels, add images of it, or try another split.seed"
            )
    return part_of_image


def assign_folds(manifest: pd.DataFrame, folds: int, split: Split) -> NDArray[np.intp]:
    """Return the fold, 0 to folds - 1, of each image of the manifest.

    Stratified by label; the images of a lesion or patient (`split.group`), and images with equal content, share a fold.

    Raises:
        DataError: a class has fewer lesions than there are folds.
    """
    unit = unit_of(manifest, split)
    group = group_images(manifest, unit)
    count = pd.Series(group).groupby(manifest["label"].to_numpy()).nunique()
    if count.min() < folds:
        raise DataError(f"class {count.idxmin()} has {count.min()} {unit}s, too few for {folds} folds: lower --folds")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=split.seed)
    fold = np.empty(len(manifest), np.intp)
    for number, (_, held_out) in enumerate(splitter.split(manifest, manifest["label"], group)):
        fold[held_out] = number
    return fold


def stratum(
    label: "pd.Series[str]", group: NDArray[np.int32], groups_of: "pd.Series[int]", unit: str, parts: int
) -> "pd.Series[str]":
    """Return the label that stands for each group, by group, where groups are drawn.

    A lesion has one diagnosis: the most frequent label of its images, of several the first in alphabetical order. A
    patient has many: the one that is rarest among all images, so that rare ones are shared out. A label that stands for
    fewer patients than there are parts, although `groups_of` as many or more have it, gives way to the one that stands
    for most.
    """
    counts = pd.DataFrame({"group": group, "label": label}).groupby(["group", "label"], as_index=False).size()
    if unit != "patient":
        counts = counts.sort_values(["group", "size", "label"], ascending=[True, False, True])
        return counts.drop_duplicates("group").set_index("group")["label"]
    counts["size"] = counts["label"].map(label.value_counts())
    counts = counts.sort_values(["group", "size", "label"])
    chosen = counts.drop_duplicates("group").set_index("group")["label"]
    stands_for = chosen.value_counts()
    return chosen.mask((chosen.map(stands_for) < parts) & (chosen.map(groups_of) >= parts), stands_for.index[0])


def group_images(manifest: pd.DataFrame, unit: str) -> NDArray[np.int32]:
    """Return a group number for each image; images with equal content, or of one unit, share it.

    Images of one patient are together where that is the unit, and so are those of one lesion then.
    """
    image = np.arange(len(manifest))
    ids = [manifest["sha256"]]
    for name in list(UNITS)[list(UNITS).index(unit) :]:
        if UNITS[name] in manifest:
            known = manifest[UNITS[name]]
            ids.append(known.where(known != "", manifest["image_id"].radd("image ")))
    # a graph whose nodes are images, then files, lesions and patients: connected images form one group
    codes = [pd.factorize(column)[0] + (1 + number) * len(image) for number, column in enumerate(ids)]
    nodes = np.concatenate(codes)
    edges = (np.ones(len(nodes)), (np.tile(image, len(codes)), nodes))
    graph = coo_array(edges, shape=((1 + len(codes)) * len(image),) * 2)
    _, component = connected_components(graph, directed=False)
    return component[: len(image)]
