"""The manifest: one checked row an image, with its label, lesion, size and content hash."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dermoscopy.data.datasets import dataset_of
from dermoscopy.data.groups import count_known, known_unit, of_lesions
from dermoscopy.data.inspections import Inspection, Inspections
from dermoscopy.data.label_tables import CLINICAL, check_values
from dermoscopy.data.raw import match_files, read_raw
from dermoscopy.data.sources.directory import ListedFile
from dermoscopy.data.storage import readers
from dermoscopy.runtime.errors import DataError, first_few, one_line
from dermoscopy.runtime.params import Data
from dermoscopy.runtime.paths import FOUND_LESIONS, REJECTED
from dermoscopy.runtime.progress import progress, tick
from dermoscopy.runtime.threads import map_ahead

# How many of a kind a line names.
SHOWN = 5


@dataclass(frozen=True)
class CheckedData:
    """The raw data after every check.

    Attributes:
        manifest: one row a usable image, sorted by image_id, as data/manifest.csv has it.
        rejected: `image_id, reason` of the labelled images that cannot be used.
        unlabelled: the image files without a label.
        duplicates: the groups of images with equal content.
        contradictory_lesions: each lesion whose images have several labels, with them: `HAM_1 (mel and nv)`.
        dataset: the public dataset that the images are of, or None.
    """

    manifest: pd.DataFrame
    rejected: pd.DataFrame
    unlabelled: list[str]
    duplicates: list[pd.DataFrame]
    contradictory_lesions: list[str]
    dataset: str | None


def check_data(data: Data) -> CheckedData:
    """Read the labels that data/raw, or the user's folder, has, and every image that they name.

    Raises:
        DataError: a table or, unless they are skipped, an image cannot be used, or there are no two classes.
    """
    labels, files, unlabelled = read_labelled(data)
    dataset = None if data.source == "sample" else dataset_of(labels)
    if data.lesions == "found":
        labels = labels.assign(lesion_id=found_lesions(labels))
    inspections = Inspections()
    try:
        found, rejected = inspect_images(labels, files, inspections)
    finally:
        inspections.keep()  # also for the run after one that fails
    del files, inspections  # of a million images half a gigabyte, which the tables can use
    if len(rejected) and data.on_bad_image == "fail":
        raise DataError(
            f"{len(rejected)} of {len(labels)} labelled images are bad: "
            f"{first_few(rejected['reason'].tolist(), '; ')}; fix them, or set data.on_bad_image=skip to leave them "
            f"out and list them in {REJECTED}"
        )
    if found.empty:
        raise DataError(f"none of the {len(labels)} labelled images can be used: {rejected['reason'].iloc[0]}")
    columns = ["image_id", "path", "label", "lesion_id", "patient_id", "width", "height", "sha256", *CLINICAL]
    manifest = labels.merge(found, on="image_id").sort_values("image_id", ignore_index=True)
    manifest = manifest[[column for column in columns if column in manifest]]
    if manifest["label"].nunique() < 2:
        raise DataError(
            f"all images are {manifest['label'].iloc[0]}: a classifier needs two classes or more, named by a label "
            "table or by a folder for each class"
        )
    return CheckedData(
        manifest=manifest,
        rejected=rejected,
        unlabelled=unlabelled,
        duplicates=find_duplicates(manifest),
        contradictory_lesions=find_contradictory_lesions(manifest),
        dataset=dataset,
    )


def read_labelled(data: Data) -> tuple[pd.DataFrame, dict[str, list[ListedFile]], list[str]]:
    """Return the labels of images that have one, see `read_raw`; what each `file` means; the image files without label.

    Raises:
        DataError: a table cannot be used, or has no label, or images have none and are not to be ignored.
    """
    labels, images = read_raw(data)
    files = match_files(labels["file"], images)
    labels = labels[labels["label"] != ""]
    labelled = {file.path for name in labels["file"] for file in files[name]}
    unlabelled = [image.path for image in images if image.path not in labelled]
    if unlabelled and data.on_unlabelled == "fail":
        raise DataError(
            f"{len(unlabelled)} of {len(images)} images have no label: {first_few(unlabelled)}; label them, or set "
            "data.on_unlabelled=ignore to leave them out"
        )
    if labels.empty:
        raise DataError(f"none of {len(images)} images has a label: fill in the column of the classes")
    return labels, files, unlabelled


def found_lesions(labels: pd.DataFrame) -> "pd.Series[str]":
    """Return the lesion of each image as data/found_lesions.csv says, or where it does not name it the label table.

    Raises:
        DataError: the table cannot be used, is empty, or names none of these images.
    """
    remedy = "run python -m tools.duplicates first, with data.lesions=table"
    try:
        table = pd.read_csv(FOUND_LESIONS, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise DataError(f"data.lesions=found: {FOUND_LESIONS} cannot be read ({error}): {remedy}") from None
    # rows longer than the header: pandas makes an index
    if list(table.columns) != ["image_id", "lesion_id"] or not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{FOUND_LESIONS} does not have the columns image_id and lesion_id, and no more: {remedy}")
    rows = table.set_index(table.index + 2).rename(columns={"image_id": "file"})
    check_values(rows, FOUND_LESIONS, {"file": "image_id"})
    if table.empty:
        raise DataError(f"data.lesions=found needs {FOUND_LESIONS}, which names no lesion: {remedy}")
    lesion = labels["image_id"].map(table.set_index("image_id")["lesion_id"])
    if lesion.isna().all():
        raise DataError(f"{FOUND_LESIONS} names none of the {len(labels)} labelled images: {remedy}")
    if strange := sorted(set(table["image_id"]) - set(labels["image_id"])):
        print(
            f"warning: manifest: {FOUND_LESIONS} names images that have no label here: {first_few(strange)}",
            file=sys.stderr,
        )
    return lesion.replace("", np.nan).fillna(labels["lesion_id"])


def inspect_images(
    labels: pd.DataFrame,
    files: Mapping[str, Sequence[ListedFile]],
    inspect: Callable[[ListedFile], Inspection],
    command: str = "manifest",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and decode every labelled image, in parallel.

    Args:
        labels: `file, image_id` of the images.
        files: what each `file` means, see `match_files`.
        inspect: of a file; see `Inspections`.
        command: for the progress bar.

    Returns:
        The good ones (`image_id, path, width, height, sha256`) and the bad ones (`image_id, reason`), in order.
    """

    def look(image: tuple[str, str]) -> tuple[str, Inspection] | str:
        image_id, file = image
        try:
            return choose_file(image_id, files[file], inspect)
        except DataError as error:
            return one_line(str(error))

    good: dict[str, list[str | int]] = {name: [] for name in ("image_id", "path", *Inspection._fields)}
    bad = []
    image_ids = labels["image_id"]
    threads = next((readers(found[0].path) for found in files.values() if found), 1)
    with progress(command, len(labels)) as bar, ThreadPoolExecutor(threads) as pool:
        images = zip(image_ids, labels["file"], strict=True)
        looks = map_ahead(pool, look, images, ahead=4 * threads)
        for image_id, found in zip(image_ids, tick(looks, bar), strict=True):
            if isinstance(found, str):
                bad.append((image_id, found))
            else:
                for column, value in zip(good.values(), (image_id, found[0], *found[1]), strict=True):
                    column.append(value)
    return pd.DataFrame(good), pd.DataFrame(bad, columns=["image_id", "reason"])


def choose_file(
    image_id: str, files: Sequence[ListedFile], inspect: Callable[[ListedFile], Inspection]
) -> tuple[str, Inspection]:
    """Return the path of an image's file, and what is in it; several are one image where their bytes are equal.

    The unpacked Kaggle archive holds each image in two folders, for instance.

    Raises:
        DataError: there is no file, or one that cannot be used, or there are several that differ.
    """
    if not files:
        raise DataError(f"{image_id}: no file of this name")
    first = inspect(files[0])
    for other in files[1:]:
        if inspect(other) != first:
            raise DataError(f"{image_id}: {files[0].path} and {other.path} differ, and both have this name")
    return files[0].path, first


def find_duplicates(manifest: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the groups of images with equal content, each a part of the manifest."""
    repeated = manifest[manifest.duplicated("sha256", keep=False)]
    return [group for _, group in repeated.groupby("sha256")]


def find_contradictory_lesions(manifest: pd.DataFrame) -> list[str]:
    """Return each lesion whose images have several labels, with them: `HAM_1 (mel and nv)`."""
    found = manifest.loc[manifest["lesion_id"] != "", ["lesion_id", "label"]].drop_duplicates()
    several = found[found.duplicated("lesion_id", keep=False)].groupby("lesion_id")["label"]
    return [f"{lesion} ({' and '.join(sorted(labels))})" for lesion, labels in several]


def count_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return `label, images, lesions`, one row a class, the largest class first; no lesions where none is known."""
    classes = manifest.groupby("label").agg(images=("image_id", "size"), lesions=("lesion_id", count_known))
    classes["lesions"] = classes["lesions"].astype("Int64")
    return classes.sort_values("images", ascending=False, kind="stable").reset_index()


def summarize(data: CheckedData) -> dict[str, object]:
    """Return the numbers for metrics/data.json; null where nothing is known."""
    manifest = data.manifest
    return {
        "dataset": data.dataset,
        "images": len(manifest),
        "lesions": count_known(manifest["lesion_id"]),
        "patients": count_known(manifest["patient_id"]) if "patient_id" in manifest else None,
        "rejected": len(data.rejected),
        "unlabelled": len(data.unlabelled),
        "duplicate_groups": len(data.duplicates),
        "duplicate_groups_with_several_labels": sum(len(set(group["label"])) > 1 for group in data.duplicates),
        "lesions_with_several_labels": len(data.contradictory_lesions),
        "classes": {str(label): int(count) for label, count in manifest["label"].value_counts().sort_index().items()},
    }


def describe(data: CheckedData) -> list[str]:
    """Return the lines that tell a user what the data are, and what is odd about them."""
    manifest, lines = data.manifest, []
    for group in data.duplicates[:SHOWN]:
        names = first_few([f"{row.image_id} ({row.label})" for row in group.itertuples()])
        lines.append(f"the same file under several ids: {names}")
    if len(data.duplicates) > SHOWN:
        lines.append(f"{len(data.duplicates) - SHOWN} more files under several ids")
    if data.contradictory_lesions:
        lines.append(f"lesions with several labels: {first_few(data.contradictory_lesions)}")
    if data.unlabelled:
        lines.append(f"images without a label, left out: {first_few(data.unlabelled)}")
    if known_unit(manifest) == "image":
        lines.append(
            "neither lesions nor patients are known: photographs of one lesion may land in training and test "
            "(python -m tools.duplicates finds them)"
        )
    patients = ""
    if "patient_id" in manifest:
        unknown = int((manifest["patient_id"] == "").sum())
        patients = f" of {count_known(manifest['patient_id'])} patients" + f" ({unknown} of none)" * (unknown > 0)
    classes = count_classes(manifest)
    counts = first_few([f"{label}: {n}" for label, n in zip(classes["label"], classes["images"], strict=True)])
    lines.append(f"{len(manifest)} images{of_lesions(manifest)}{patients}; {counts}; {len(data.rejected)} rejected")
    return lines
