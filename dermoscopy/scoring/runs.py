"""Finished runs, read from Git revisions, DVC experiments or the workspace; nothing is checked out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pandas as pd

from dermoscopy.data.groups import group_ids
from dermoscopy.data.tables import read_table
from dermoscopy.model.head_info import read_head_info
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import HEAD_INFO, MANIFEST
from dermoscopy.scoring.predictions import class_names, decide, scored_table

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Run:
    """What is compared of a revision.

    Attributes:
        name: as it was asked for.
        params: by `section.key`.
        scored: the prediction table that `evaluate.tta` chooses.
        prior: the share of each class among its training images; None where `evaluate.prior_exponent` is 0.
        validation, test: the images of these parts, decided as its params say, sorted by image_id, with lesion_id,
            group_id and sha256.
    """

    name: str
    params: dict[str, Any]
    scored: Path
    prior: list[float] | None
    validation: pd.DataFrame
    test: pd.DataFrame


def load_run(name: str) -> Run:
    """Return the run of a Git revision, a DVC experiment or the workspace, without touching any file of the project.

    Raises:
        DataError: there is no such revision, it lacks a file, DVC's cache lacks it, or no image is in its test part.
    """
    params = params_of(name)
    scored = scored_table(params["evaluate.tta"])
    exponent = params.get("evaluate.prior_exponent", 0)  # a run from before there was one took the likeliest class
    with revision(name, scored, MANIFEST, *([HEAD_INFO] if exponent else [])) as folder:
        predictions = read_table(folder / scored, "image_id", "part", "label", "predicted")
        prior = read_head_info(folder / HEAD_INFO).prior if exponent else None
        manifest = read_table(folder / MANIFEST, "image_id", "lesion_id", "sha256")
    if prior is not None:
        predictions = decide(predictions, prior, exponent)
    if not (predictions["part"] == "test").any():
        raise DataError(
            f"{name} has no test images (split.test = {params.get('split.test')}), and its validation images chose "
            "when its training stopped: compare runs with a test part"
        )
    known = manifest[["image_id", "lesion_id", "sha256"]].assign(group_id=group_ids(manifest))
    images = predictions.merge(known, on="image_id", how="left", validate="1:1").sort_values("image_id")
    parts = [images[images["part"] == part].reset_index(drop=True) for part in ("validation", "test")]
    return Run(name, params, scored, prior, *parts)


def params_of(name: str) -> dict[str, Any]:
    """Return the params of a Git revision, a DVC experiment or the workspace, by `section.key`.

    `evaluate.tta` is among them, true or false; `evaluate.prior_exponent` is a number where there is one.

    Raises:
        DataError: there is no such revision, or its params cannot be read or lack `evaluate.tta`.
    """
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        params = flatten(dvc.api.params_show(rev=None if name == WORKSPACE else name))
    except (DvcException, FileNotFoundError) as error:
        raise unreadable(name, error) from None
    if "evaluate.tta" not in params:
        raise DataError(f"{name} has no param evaluate.tta: name runs of this pipeline")
    tta, exponent = params["evaluate.tta"], params.get("evaluate.prior_exponent", 0)
    if not isinstance(tta, bool) or not isinstance(exponent, int | float):
        raise DataError(f"{name} has evaluate.tta = {tta!r} and evaluate.prior_exponent = {exponent!r}: correct them")
    return params


@contextmanager
def revision(name: str, *paths: Path, if_any: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield a folder that has these files and folders of a revision; for the workspace it is the project itself.

    Args:
        name: of the revision.
        paths: what it must have.
        if_any: what it may lack, because it is from before there were such.

    Raises:
        DataError: there is no such revision, it lacks a file, or DVC's cache lacks it.
    """
    if name == WORKSPACE:
        yield Path()
        return
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError  # of a folder that the cache lacks

    with TemporaryDirectory() as folder:
        try:
            files = DVCFileSystem(rev=name)
            for path in [*paths, *(path for path in if_any if files.exists(path.as_posix()))]:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                files.get(path.as_posix(), str(folder / path), recursive=files.isdir(path.as_posix()))
        except (DvcException, DataIndexError, FileNotFoundError) as error:
            raise unreadable(name, error) from None
        yield Path(folder)


def unreadable(name: str, error: Exception) -> DataError:
    """Return the error for a revision of which something cannot be read."""
    hint = "run it again with this version, or dvc fetch, and give a name that git rev-parse or dvc exp list knows"
    return DataError(f"{name} cannot be read ({error}): {hint}")


def flatten(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested params by `section.key`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def require_same_images(first: Run, other: Run, part: Literal["validation", "test"] = "test") -> None:
    """Raise a DataError unless two runs have the same images, contents, labels, lesions and classes in a part."""
    pair = f"{first.name} and {other.name} cannot be compared"
    remedy = "run both with the same data and the same params under split"
    our_table, their_table = (getattr(item, part) for item in (first, other))
    ours, theirs = set(our_table["image_id"]), set(their_table["image_id"])
    if ours != theirs:
        verb = {"validation": "validated", "test": "tested"}[part]
        raise DataError(
            f"{pair}: they were {verb} on different images, {len(ours)} and {len(theirs)} with {len(ours & theirs)} in "
            f"common: {remedy}"
        )
    for column, what in {"sha256": "contents", "label": "labels", "group_id": "lesions or patients"}.items():
        different = our_table["image_id"][our_table[column] != their_table[column]]
        if len(different):
            raise DataError(
                f"{pair}: {len(different)} of their {part} images have different {what}, the first is "
                f"{different.iloc[0]}: {remedy}"
            )
    if class_names(our_table) != class_names(their_table):
        raise DataError(f"{pair}: they know different classes: {remedy}")


def params_that_differ(runs: list[Run]) -> pd.DataFrame:
    """Return a row for each param that not all runs have alike, a column a run; empty where a run has no such param."""
    keys = list(dict.fromkeys(key for item in runs for key in item.params))
    rows = {key: [repr(item.params[key]) if key in item.params else "" for item in runs] for key in keys}
    different = {key: values for key, values in rows.items() if len(set(values)) > 1}
    return pd.DataFrame.from_dict(different, orient="index", columns=[item.name for item in runs])
