"""Build data/manifest.csv: one checked row an image, with its label, lesion, size and content hash."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from filecmp import cmp
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from stages.common.errors import DataError, run
from stages.common.images import SUFFIXES, decode, read_bytes
from stages.common.labels import CLINICAL, read_labels
from stages.common.params import load_params, require_unchanged
from stages.common.progress import progress
from stages.common.tables import MANIFEST, write_json, write_table

RAW = Path("data/raw")
REJECTED = Path("data/rejected.csv")
STATISTICS = Path("metrics/data.json")
CLASS_DISTRIBUTION = Path("plots/class_distribution.csv")

_text = pa.Column(str, pa.Check.str_length(min_value=1))
LABELS_SCHEMA = pa.DataFrameSchema(
    {
        "image_id": pa.Column(str, pa.Check.str_matches(r"^[^/\\\0]+$"), unique=True),
        "label": pa.Column(str, pa.Check.str_matches(r"^[^\s,]+$")),
        "lesion_id": _text,
        "dx_type": pa.Column(str, required=False),
        "age": pa.Column(float, pa.Check.in_range(0, 120), nullable=True, required=False),
        "sex": pa.Column(str, required=False),
        "localization": pa.Column(str, required=False),
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
            f"{len(rejected)} of {len(labels)} labelled images are bad: {'; '.join(rejected['reason'])}; "
            "mend them, or set data.on_bad_image=skip to leave them out"
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
    write_table(rejected, REJECTED)
    write_table(count_classes(manifest), CLASS_DISTRIBUTION)
    write_json(summarize(manifest, duplicates, len(rejected), unlabelled), STATISTICS)
    write_table(manifest, MANIFEST)
    require_unchanged(data)
    for group in duplicates:
        print("manifest: the same file under several ids: " + ", ".join(f"{i} ({label})" for i, label in group))
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
        faults = [f"{column} {check}: {', '.join(map(str, found.head(5)))}" for (column, check), found in cases]
        raise DataError(f"the {name} is not valid: {'; '.join(faults)}") from None


def find_images(raw: Path) -> dict[str, list[Path]]:
    """Return the image files of data/raw by file name without suffix."""
    if (raw / "files.csv").exists():
        paths = [Path(path) for path in pd.read_csv(raw / "files.csv", dtype=str)["path"]]
    else:
        paths = sorted(path for path in (raw / "images").iterdir() if path.suffix.lower() in SUFFIXES)
    images: dict[str, list[Path]] = {}
    for path in paths:
        images.setdefault(path.stem, []).append(path)
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
            return {"image_id": image_id, "reason": str(error)}
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


def count_classes(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return `label, images, lesions`, one row a class, the largest class first."""
    classes = manifest.groupby("label").agg(images=("image_id", "size"), lesions=("lesion_id", "nunique"))
    return classes.sort_values("images", ascending=False, kind="stable").reset_index()


def summarize(
    manifest: pd.DataFrame, duplicates: list[list[tuple[str, str]]], rejected: int, unlabelled: int
) -> dict[str, object]:
    """Return the numbers for metrics/data.json."""
    labels_of_lesion = manifest.groupby("lesion_id")["label"].nunique()
    return {
        "images": len(manifest),
        "lesions": int(manifest["lesion_id"].nunique()),
        "rejected": rejected,
        "unlabelled": unlabelled,
        "duplicate_groups": len(duplicates),
        "duplicate_groups_with_several_labels": sum(len({label for _, label in group}) > 1 for group in duplicates),
        "lesions_with_several_labels": int((labels_of_lesion > 1).sum()),
        "classes": {str(label): int(count) for label, count in manifest["label"].value_counts().sort_index().items()},
    }


if __name__ == "__main__":
    run(main)
