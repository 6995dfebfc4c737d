"""Build data/manifest.csv: one checked row an image, with its label, lesion, size and content hash."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from filecmp import cmp
from pathlib import Path
from unicodedata import normalize

import pandas as pd
import pandera.pandas as pa

from stages.common.errors import DataError, one_line, run
from stages.common.images import SUFFIXES, decode, read_bytes
from stages.common.labels import CLINICAL, read_labels
from stages.common.params import load_params, require_unchanged
from stages.common.progress import progress
from stages.common.tables import MANIFEST, read_table, write_json, write_table

RAW = Path("data/raw")
REJECTED = Path("data/rejected.csv")
STATISTICS = Path("metrics/data.json")
CLASS_DISTRIBUTION = Path("plots/class_distribution.csv")
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
MANIFEST_SCHEMA = LABELS_SCHEMA.add_columns(
    {
        "path": _text,
        "width": pa.Column(int, pa.Check.ge(1)),
        "height": pa.Column(int, pa.Check.ge(1)),
        "sha256": pa.Column(str, pa.Check.str_matches(r"^[0-9a-f]{64}$")),
    }
)


def main() -> None:
    data = load_params().data
    labels = validate(LABELS_SCHEMA, read_labels(RAW / "labels.csv"), "label table")
    files = find_images(RAW)
    unlabelled = len(files.keys() - set(labels["image_id"]))
    images, rejected = inspect_images(labels["image_id"], files)
    if len(rejected) and data.on_bad_image == "fail":
        raise DataError(
            f"{len(rejected)} of {len(labels)} labelled images are bad: "
            f"{first_few(rejected['reason'].tolist(), '; ')}; mend them, or set data.on_bad_image=skip to leave them "
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
    duplicates = find_duplicates(manifest)
    contradictory = find_contradictory_lesions(manifest)
    write_table(rejected, REJECTED)
    write_table(count_classes(manifest), CLASS_DISTRIBUTION)
    write_json(summarize(manifest, duplicates, contradictory, len(rejected), unlabelled), STATISTICS)
    write_table(manifest, MANIFEST)
    require_unchanged(data)
    for group in duplicates[:SHOWN]:
        print("manifest: the same file under several ids: " + first_few([f"{i} ({label})" for i, label in group]))
    if len(duplicates) > SHOWN:
        print(f"manifest: {len(duplicates) - SHOWN} more files under several ids")
    if contradictory:
        print("manifest: lesions with several labels: " + first_few(contradictory))
    print(
        f"manifest: {len(manifest)} images of {manifest['lesion_id'].nunique()} lesions; {len(rejected)} rejected, "
        f"{unlabelled} more without a label"
    )


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

    The unpacked Kaggle archive, say, holds each image in two folders.

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


def find_duplicates(manifest: pd.DataFrame) -> list[list[tuple[str, str]]]:
    """Return the groups of images with equal content, each a list of (image_id, label)."""
    repeated = manifest[manifest.duplicated("sha256", keep=False)]
    return [list(zip(group["image_id"], group["label"], strict=True)) for _, group in repeated.groupby("sha256")]


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


def summarize(
    manifest: pd.DataFrame,
    duplicates: list[list[tuple[str, str]]],
    contradictory: list[str],
    rejected: int,
    unlabelled: int,
) -> dict[str, object]:
    """Return the numbers for metrics/data.json."""
    return {
        "images": len(manifest),
        "lesions": int(manifest["lesion_id"].nunique()),
        "rejected": rejected,
        "unlabelled": unlabelled,
        "duplicate_groups": len(duplicates),
        "duplicate_groups_with_several_labels": sum(len({label for _, label in group}) > 1 for group in duplicates),
        "lesions_with_several_labels": len(contradictory),
        "classes": {str(label): int(count) for label, count in manifest["label"].value_counts().sort_index().items()},
    }


if __name__ == "__main__":
    run(main)
