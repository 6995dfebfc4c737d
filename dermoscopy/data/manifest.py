"""The manifest: one checked row an image, with its label, lesion, size and content hash."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from typing import Literal
from unicodedata import normalize

import pandas as pd
import pandera.pandas as pa

from dermoscopy.data.images import SUFFIXES, decode, read_bytes
from dermoscopy.data.label_tables import CLINICAL, read_labels
from dermoscopy.data.tables import read_table
from dermoscopy.runtime.errors import DataError, one_line
from dermoscopy.runtime.paths import FOUND_LESIONS, REJECTED
from dermoscopy.runtime.progress import progress

# How many of a kind a line names.
SHOWN = 5

# A carriage return in a field would end its row for those who read the table again.
_printable = pa.Check(lambda column: ~column.str.contains(r"[\x00-\x1f\x7f]"), error="no control characters")
_text = pa.Column(str, [pa.Check.str_length(min_value=1), _printable])
_clinical = pa.Column(str, _printable, required=False)
LABELS_SCHEMA = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str, [pa.Check.str_matches(r"^[^/\\]+$"), _printable], unique=True),
        "label": pa.Column(str, [pa.Check.str_matches(r"^[^\s,]+$"), _printable]),
        "lesion_id": _text,
        "dx_type": _clinical,
        "age": pa.Column(float, pa.Check.in_range(0, 120), nullable=True, required=False),
        "sex": _clinical,
        "localization": _clinical,
    },
    strict=True,
)
FOUND_LESIONS_SCHEMA = LABELS_SCHEMA.select_columns(["image_id", "lesion_id"])
MANIFEST_SCHEMA = LABELS_SCHEMA.add_columns(
    {
        "path": _text,
        "width": pa.Column(int, pa.Check.ge(1)),
        "height": pa.Column(int, pa.Check.ge(1)),
        "sha256": pa.Column(str, pa.Check.str_matches(r"^[0-9a-f]{64}$")),
    }
)


@dataclass(frozen=True)
class CheckedData:
    """The raw data after every check.

    Attributes:
        manifest: one row a usable image, sorted by image_id, as data/manifest.csv has it.
        rejected: `image_id, reason` of the labelled images that cannot be used.
        unlabelled: how many image files no label names.
        duplicates: the groups of images with equal content.
        contradictory_lesions: each lesion whose images have several labels, with them: `HAM_1 (mel, nv)`.
    """

    manifest: pd.DataFrame
    rejected: pd.DataFrame
    unlabelled: int
    duplicates: list[pd.DataFrame]
    contradictory_lesions: list[str]


def check_data(
    raw: Path, on_bad_image: Literal["fail", "skip"], lesions: Literal["table", "found"] = "table"
) -> CheckedData:
    """Read the label table of data/raw and every image that it names.

    Args:
        raw: the folder data/raw.
        on_bad_image: whether an image that cannot be used is an error, or left out.
        lesions: whether the label table or data/found_lesions.csv says which images are of one lesion.

    Raises:
        DataError: a table or, unless they are skipped, an image cannot be used, or there are no two classes.
    """
    labels = read_valid_labels(raw / "labels.csv")
    if lesions == "found":
        labels["lesion_id"] = found_lesions(labels)
    files = find_images(raw)
    images, rejected = inspect_images(labels["image_id"], files)
    if len(rejected) and on_bad_image == "fail":
        raise DataError(
            f"{len(rejected)} of {len(labels)} labelled images are bad: "
            f"{first_few(rejected['reason'].tolist(), '; ')}; fix them, or set data.on_bad_image=skip to leave them "
            f"out and list them in {REJECTED}"
        )
    if images.empty:
        raise DataError(f"none of the {len(labels)} labelled images can be used: {rejected['reason'].iloc[0]}")
    columns = ["image_id", "path", "label", "lesion_id", "width", "height", "sha256"]
    manifest = labels.merge(images, on="image_id").sort_values("image_id")
    manifest = manifest[columns + [column for column in CLINICAL if column in manifest]]
    manifest = validate(MANIFEST_SCHEMA, manifest, "manifest")
    if manifest["label"].nunique() < 2:
        raise DataError(f"all images are {manifest['label'].iloc[0]}: a classifier needs two classes or more")
    return CheckedData(
        manifest=manifest,
        rejected=rejected,
        unlabelled=len(files.keys() - set(labels["image_id"])),
        duplicates=find_duplicates(manifest),
        contradictory_lesions=find_contradictory_lesions(manifest),
    )


def read_valid_labels(path: Path) -> pd.DataFrame:
    """Return what `read_labels` returns, checked: unique image ids, labels without blanks, ages from 0 to 120."""
    return validate(LABELS_SCHEMA, read_labels(path), "label table")


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
    table = validate(FOUND_LESIONS_SCHEMA, table, str(FOUND_LESIONS))
    if table.empty:
        raise DataError(f"data.lesions=found needs {FOUND_LESIONS}, which names no lesion: {remedy}")
    lesion = labels["image_id"].map(table.set_index("image_id")["lesion_id"])
    if lesion.isna().all():
        raise DataError(f"{FOUND_LESIONS} names none of the {len(labels)} labelled images: {remedy}")
    return lesion.fillna(labels["lesion_id"])


def validate(schema: pa.DataFrameSchema, table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the table if it fits the schema; a DataError names each check that fails and the first values."""
    try:
        return schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.groupby(["column", "check"], sort=False)["failure_case"]
        faults = [f"{column} {check}: {first_few(list(map(str, found)))}" for (column, check), found in cases]
        raise DataError(f"the {name} is not valid: {'; '.join(faults)}") from None


def find_images(raw: Path) -> dict[str, list[Path]]:
    """Return the image files of data/raw by file name without suffix."""
    if (raw / "files.csv").exists():
        paths = [Path(path) for path in read_table(raw / "files.csv", "path")["path"]]
    else:
        paths = sorted(path for path in (raw / "images").glob("*") if path.suffix.lower() in SUFFIXES)
    images: dict[str, list[Path]] = {}
    for path in paths:
        images.setdefault(normalize("NFC", path.stem), []).append(path)  # as the ids of the label table
    return images


def inspect_images(image_ids: "pd.Series[str]", files: dict[str, list[Path]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read and decode every labelled image, in parallel.

    Returns:
        The good ones (`image_id, path, width, height, sha256`) and the bad ones (`image_id, reason`), in order.
    """

    def inspect(image_id: str) -> dict[str, object]:
        try:
            path = choose_file(image_id, files.get(image_id, []))
            content = read_bytes(path)
            height, width, _ = decode(content, path).shape
        except DataError as error:
            return {"image_id": image_id, "reason": one_line(str(error))}
        digest = hashlib.sha256(content).hexdigest()
        return {"image_id": image_id, "path": path.as_posix(), "width": width, "height": height, "sha256": digest}

    rows = []
    with progress("manifest", len(image_ids)) as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for row in pool.map(inspect, image_ids):
            rows.append(row)
            bar.update()
    good = [row for row in rows if "reason" not in row]
    bad = [row for row in rows if "reason" in row]
    return (
        pd.DataFrame(good, columns=["image_id", "path", "width", "height", "sha256"]),
        pd.DataFrame(bad, columns=["image_id", "reason"]),
    )


def choose_file(image_id: str, paths: list[Path]) -> Path:
    """Return the file of an image; several are one image where their bytes are equal.

    The unpacked Kaggle archive holds each image in two folders, for instance.

    Raises:
        DataError: there is no file, or there are several that differ or cannot be read.
    """
    if not paths:
        raise DataError(f"{image_id}: no file of this name")
    for other in paths[1:]:
        try:
            same = cmp(paths[0], other, shallow=False)
        except OSError as error:
            raise DataError(f"{image_id}: {error.filename}: {error.strerror}") from None
        if not same:
            raise DataError(f"{image_id}: {paths[0]} and {other} differ, and both have this name")
    return paths[0]


def find_duplicates(manifest: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the groups of images with equal content, each a part of the manifest."""
    repeated = manifest[manifest.duplicated("sha256", keep=False)]
    return [group for _, group in repeated.groupby("sha256")]


def find_contradictory_lesions(manifest: pd.DataFrame) -> list[str]:
    """Return each lesion whose images have several labels, with them: `HAM_1 (mel, nv)`."""
    labels = manifest.groupby("lesion_id")["label"].unique()
    return [f"{lesion} ({', '.join(sorted(found))})" for lesion, found in labels[labels.str.len() > 1].items()]


def first_few(items: Sequence[str], separator: str = ", ") -> str:
    """Return the first items, and how many more there are, for a line that stays readable."""
    more = [f"and {len(items) - SHOWN} more"] if len(items) > SHOWN else []
    return separator.join([*items[:SHOWN], *more])


def count_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return `label, images, lesions`, one row a class, the largest class first."""
    classes = manifest.groupby("label").agg(images=("image_id", "size"), lesions=("lesion_id", "nunique"))
    return classes.sort_values("images", ascending=False, kind="stable").reset_index()


def summarize(data: CheckedData) -> dict[str, object]:
    """Return the numbers for metrics/data.json."""
    manifest = data.manifest
    return {
        "images": len(manifest),
        "lesions": int(manifest["lesion_id"].nunique()),
        "rejected": len(data.rejected),
        "unlabelled": data.unlabelled,
        "duplicate_groups": len(data.duplicates),
        "duplicate_groups_with_several_labels": sum(len(set(group["label"])) > 1 for group in data.duplicates),
        "lesions_with_several_labels": len(data.contradictory_lesions),
        "classes": {str(label): int(count) for label, count in manifest["label"].value_counts().sort_index().items()},
    }


def describe(data: CheckedData) -> list[str]:
    """Return the lines that tell a user what the data are, and what is odd about them."""
    lines = []
    for group in data.duplicates[:SHOWN]:
        names = first_few([f"{row.image_id} ({row.label})" for row in group.itertuples()])
        lines.append(f"the same file under several ids: {names}")
    if len(data.duplicates) > SHOWN:
        lines.append(f"{len(data.duplicates) - SHOWN} more files under several ids")
    if data.contradictory_lesions:
        lines.append(f"lesions with several labels: {first_few(data.contradictory_lesions)}")
    lines.append(
        f"{len(data.manifest)} images of {data.manifest['lesion_id'].nunique()} lesions; {len(data.rejected)} rejected,"
        f" {data.unlabelled} more without a label"
    )
    return lines
