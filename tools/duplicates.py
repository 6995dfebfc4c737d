"""Find photographs of the same lesion, where the label table names no lesions or misses some.

Run from the top folder of the project, after dvc repro features. It writes metrics/duplicates.csv, a row a pair, and
data/found_lesions.csv, the lesion of each image that is not alone. With data.lesions=found the manifest stage takes
the lesions from there, and the split keeps the images of each in one part.
"""

import argparse

import numpy as np
import pandas as pd

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.raw import read_raw
from dermoscopy.data.tables import read_table, write_table
from dermoscopy.features.near_duplicates import connect_pairs, find_pairs
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.repetition import require_current_features
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import DUPLICATES, FOUND_LESIONS, MANIFEST, SPLIT

SHOWN = 20  # rows of the table that are printed
COLUMNS = {"image": "image_id", "part": "part", "label": "label"}  # of each image of a pair


def main() -> None:
    argparse.ArgumentParser(prog="python -m tools.duplicates", description=__doc__).parse_args()
    configure_image_libraries()
    manifest = read_table(MANIFEST, "image_id", "path", "label", "sha256")
    params = load_params()
    require_current_features(manifest, params)
    # the manifest may have lesions that this command found before
    known = read_raw(params.data)[0].set_index("image_id")["lesion_id"]
    lesions_of_table = manifest["image_id"].map(known)
    if lesions_of_table.isna().any():
        raise DataError(f"{MANIFEST} has images that the label table does not name: run dvc repro manifest")
    # whose lesion nobody knows is one of its own
    lesions_of_table = lesions_of_table.mask(lesions_of_table == "", "image " + manifest["image_id"])
    images = manifest.assign(lesion_id=lesions_of_table, part=read_parts(manifest))

    pairs = find_pairs(images, FeatureReader())
    table = pair_table(images, pairs)
    lesions = found_lesions(images, pairs)
    write_table(table, DUPLICATES)
    write_table(lesions, FOUND_LESIONS)
    if len(table):
        print(table.to_string(index=False, max_rows=SHOWN, float_format="%.3f"))
    for line in summarize(images, table, lesions):
        print(f"duplicates: {line}")


def read_parts(manifest: pd.DataFrame) -> "pd.Series[str]":
    """Return the part of each image of the manifest, empty where the split stage has not assigned one."""
    if not SPLIT.exists():
        return pd.Series("", manifest.index)
    return manifest["image_id"].map(read_table(SPLIT, "image_id", "part").set_index("image_id")["part"]).fillna("")


def knows_lesions(images: pd.DataFrame) -> bool:
    """Return whether the label table says that some images are of one lesion."""
    return not images["lesion_id"].is_unique


def pair_table(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a row a pair, the surest first: both images with part and label, cosine and inliers.

    `same_lesion` says yes or no as the label table does, or nothing where that knows no lesions.
    """
    one, other = (images.iloc[pairs[side]].reset_index(drop=True) for side in ("first", "second"))
    columns = {f"{name}_{n}": of[column] for name, column in COLUMNS.items() for n, of in ((1, one), (2, other))}
    same = np.where(one["lesion_id"] == other["lesion_id"], "yes", "no") if knows_lesions(images) else ""
    table = pd.DataFrame(columns | {"same_lesion": same, "cosine": pairs["cosine"], "inliers": pairs["inliers"]})
    return table.sort_values(["inliers", "image_1", "image_2"], ascending=[False, True, True], ignore_index=True)


def found_lesions(images: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return `image_id, lesion_id` of each image that shares its lesion with another, as pairs and label table say.

    What the label table knows is kept: a pair joins two of its lesions. A lesion has the name that its first image has
    there, or where it has none the name of that image.
    """
    number = np.arange(len(images))
    first_of_lesion = pd.Series(number).groupby(images["lesion_id"].to_numpy()).transform("first")
    edges = np.concatenate([pairs[["first", "second"]], np.column_stack([first_of_lesion, number])])
    group = images["lesion_id"].groupby(connect_pairs(edges, len(images)))
    lesions = pd.DataFrame({"image_id": images["image_id"], "lesion_id": group.transform("first")})
    return lesions[group.transform("size") > 1]


def summarize(images: pd.DataFrame, table: pd.DataFrame, lesions: pd.DataFrame) -> list[str]:
    """Return the lines that say how much was found, how well it agrees with the label table, and what to do next."""
    parts = (table["part_1"] != table["part_2"]).sum()
    labels = (table["label_1"] != table["label_2"]).sum()
    lines = [
        f"{len(table)} pairs of photographs of one lesion, {parts} of them in two parts, {labels} with two labels",
        f"{lesions['lesion_id'].nunique()} lesions with two images or more, {len(lesions)} images in all",
    ]
    if knows_lesions(images):
        size = images["lesion_id"].value_counts()
        known, right = int((size * (size - 1) // 2).sum()), int((table["same_lesion"] == "yes").sum())
        precision = f"precision {right / len(table):.3f}, " if len(table) else ""
        lines.append(
            f"{right} pairs are of one lesion in the label table too, which has {known}: {precision}"
            f"recall {right / known:.3f}"
        )
    if len(lesions):
        lines.append(
            f"the pairs are in {DUPLICATES}, the surest first, and the lesions in {FOUND_LESIONS}: look at the pairs, "
            "then run dvc exp run -S data.lesions=found"
        )
    return lines


if __name__ == "__main__":
    run_command(main)
