"""Compare runs, Git revisions or DVC experiments, on their test images: better, worse, or not distinguishable.

Nothing is checked out; `workspace` stands for the files as they are. Run from the top folder of the project.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from stages.common.bootstrap import bootstrap, holm, interval, p_value
from stages.common.errors import DataError, run
from stages.common.metrics import HEADLINES, OF_A_CLASS, weighted_metrics
from stages.common.tables import MANIFEST, PREDICTIONS, PREDICTIONS_TTA, class_names, read_table

WORKSPACE = "workspace"
SEED = 1  # one for all comparisons: what two runs say of each other does not hang on the params of a third


@dataclass(frozen=True)
class Run:
    """What is compared of a revision.

    Attributes:
        name: as it was asked for.
        params: by `section.key`.
        scored: the prediction table that `evaluate.tta` chooses.
        test: its test images, sorted by image_id, with lesion_id and sha256.
    """

    name: str
    params: dict[str, Any]
    scored: Path
    test: pd.DataFrame


@dataclass(frozen=True)
class Difference:
    """How a run differs from the first one, on the same images.

    Attributes:
        metrics: a row for each metric: first, other, difference, and low and high of its 95 % interval.
        p_value: of the difference in balanced accuracy, from the bootstrap.
        only_first, only_other: how many images only this run has right.
        mcnemar: p-value of McNemar's exact test on these two numbers.
    """

    metrics: pd.DataFrame
    p_value: float
    only_first: int
    only_other: int
    mcnemar: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("first", metavar="A", help="what the others are compared with: revision, experiment, workspace")
    parser.add_argument("others", metavar="B", nargs="+", help="one or more of the same")
    arguments = parser.parse_args()

    first, *others = runs = [load_run(name) for name in [arguments.first, *arguments.others]]
    for other in others:
        require_same_images(first, other)
    differences = [compare(first, other) for other in others]
    print(f"{len(first.test)} test images of {first.test['lesion_id'].nunique()} lesions; scored is")
    for item in runs:
        views = "the mean over all views" if item.scored == PREDICTIONS_TTA else "the image alone"
        print(f"  {item.name}: {views} ({item.scored})")
    params = params_that_differ(runs)
    print("\nParams that differ" + (f"\n{params.to_string()}" if len(params) else ": none"))
    if len(others) == 1:
        print_pair(first, others[0], differences[0])
    else:
        print_many(first, others, differences)


def load_run(name: str) -> Run:
    """Return the run of a Git revision, a DVC experiment or the workspace, without touching any file of the project.

    Raises:
        DataError: there is no such revision, it lacks a file, DVC's cache lacks it, or no image is in its test part.
    """
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        params = flatten(dvc.api.params_show(rev=None if name == WORKSPACE else name))
        if "evaluate.tta" not in params:
            raise DataError(f"{name} has no param evaluate.tta: compare runs of this pipeline")
        scored = PREDICTIONS_TTA if params["evaluate.tta"] else PREDICTIONS
        with TemporaryDirectory() as copy:
            folder = Path() if name == WORKSPACE else Path(copy)
            if name != WORKSPACE:
                for path in (scored, MANIFEST):
                    (folder / path).parent.mkdir(exist_ok=True)
                    (folder / path).write_text(dvc.api.read(path.as_posix(), rev=name, encoding="utf-8"), "utf-8")
            predictions = read_table(folder / scored, "image_id", "part", "label", "predicted")
            manifest = read_table(folder / MANIFEST, "image_id", "lesion_id", "sha256")
    except (DvcException, FileNotFoundError) as error:
        hint = "run dvc repro there, or dvc fetch, and give a name that git rev-parse or dvc exp list knows"
        raise DataError(f"{name} cannot be read ({error}): {hint}") from None
    test = predictions[predictions["part"] == "test"]
    if test.empty:
        raise DataError(
            f"{name} has no test images (split.test = {params.get('split.test')}), and its validation images chose "
            "when its training stopped: compare runs with a test part"
        )
    known = manifest[["image_id", "lesion_id", "sha256"]]
    test = test.merge(known, on="image_id", how="left", validate="1:1")
    return Run(name, params, scored, test.sort_values("image_id", ignore_index=True))


def flatten(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested params by `section.key`."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def require_same_images(first: Run, other: Run) -> None:
    """Raise a DataError unless two runs were tested on the same images with the same labels."""
    pair = f"{first.name} and {other.name} cannot be compared"
    remedy = "run both with the same data and the same params under split"
    ours, theirs = set(first.test["image_id"]), set(other.test["image_id"])
    if ours != theirs:
        raise DataError(
            f"{pair}: they were tested on different images, {len(ours)} and {len(theirs)} with {len(ours & theirs)} in "
            f"common: {remedy}"
        )
    for column, what in {"sha256": "contents", "label": "labels", "lesion_id": "lesions"}.items():
        different = first.test["image_id"][first.test[column] != other.test[column]]
        if len(different):
            raise DataError(
                f"{pair}: {len(different)} of their test images have different {what}, the first is "
                f"{different.iloc[0]}: {remedy}"
            )
    if class_names(first.test) != class_names(other.test):
        raise DataError(f"{pair}: they know different classes: {remedy}")


def compare(first: Run, other: Run) -> Difference:
    """Return how `other` differs from `first`; every bootstrap sample has the same lesions for both."""
    of_first, of_other = weighted_metrics(first.test), weighted_metrics(other.test)

    def both(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        ours, theirs = of_first(weights), of_other(weights)
        return {name: np.stack([ours[name], theirs[name]], axis=1) for name in ours}

    observed = both(np.ones((1, len(first.test))))
    draws = bootstrap(both, first.test["lesion_id"], SEED)
    lesions = first.test.groupby("label")["lesion_id"].nunique()
    spread = lesions.max() > 1  # resampling a single lesion shows none, as in metrics.json
    rows = {name: [*observed[name][0], *(limits(draws[name]) if spread else (np.nan, np.nan))] for name in HEADLINES}
    for i, label in enumerate(class_names(first.test)):
        of_class = lesions.get(label, 0) > 1
        of_others = len(first.test["lesion_id"][first.test["label"] != label].unique()) > 1
        enough = {"recall": of_class, "f1": of_class, "specificity": of_others, "auc": of_class and of_others}
        for name in OF_A_CLASS:
            values = [*observed[name][0, :, i], *(limits(draws[name][..., i]) if enough[name] else (np.nan, np.nan))]
            rows[f"{label} {name}"] = values
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["first", "other", "low", "high"])
    table.insert(2, "difference", table["other"] - table["first"])
    right = [(item.test["label"] == item.test["predicted"]).to_numpy() for item in (first, other)]
    only_first, only_other = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    balanced = draws["balanced_accuracy"]
    return Difference(
        metrics=table,
        p_value=p_value(balanced[:, 1] - balanced[:, 0]) if spread else 1.0,
        only_first=only_first,
        only_other=only_other,
        mcnemar=mcnemar(only_first, only_other),
    )


def limits(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of second minus first of draws, (n, 2); NaN where there is none."""
    low, high = interval(draws[:, 1] - draws[:, 0]) or (np.nan, np.nan)
    return low, high


def mcnemar(only_first: int, only_other: int) -> float:
    """Return the p-value of McNemar's exact test: whether both are equally often the only one that is right.

    It takes images for independent, which images of one lesion are not; the bootstrap does not.
    """
    disagreements = only_first + only_other
    return float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0


def verdict(first: Run, other: Run, difference: Difference, p_corrected: float | None = None) -> str:
    """Return a plain sentence: better, worse, or not distinguishable.

    Not distinguishable is what the interval of the difference in balanced accuracy leaves open, that is, where it
    includes 0 or, in a comparison of several, where the corrected p-value is 0.05 or more.
    """
    row = difference.metrics.loc["balanced_accuracy"]
    detail = (
        f"balanced accuracy {row['difference']:+.3f}, 95 % interval {row['low']:+.3f} to {row['high']:+.3f}, on "
        f"{len(first.test)} images of {first.test['lesion_id'].nunique()} lesions"
    )
    told_apart = not (np.isnan(row["low"]) or row["low"] <= 0 <= row["high"])
    if not told_apart or (p_corrected is not None and p_corrected >= 0.05):
        return f"{other.name} is not distinguishable from {first.name} with this much data: {detail}."
    return f"{other.name} is {'better' if row['difference'] > 0 else 'worse'} than {first.name}: {detail}."


def params_that_differ(runs: list[Run]) -> pd.DataFrame:
    """Return a row for each param that not all runs have alike, a column a run; empty where a run has no such param."""
    keys = list(dict.fromkeys(key for item in runs for key in item.params))
    rows = {key: [repr(item.params[key]) if key in item.params else "" for item in runs] for key in keys}
    different = {key: values for key, values in rows.items() if len(set(values)) > 1}
    return pd.DataFrame.from_dict(different, orient="index", columns=[item.name for item in runs])


def print_pair(first: Run, other: Run, difference: Difference) -> None:
    """Print metrics side by side, the test on accuracy and the verdict."""
    table = difference.metrics.rename(columns={"first": first.name, "other": other.name})
    print(f"\nMetrics, {other.name} minus {first.name}, and the 95 % interval of the difference")
    print(table.to_string(float_format="%.3f", na_rep=""))
    print(
        f"\nMcNemar's exact test on accuracy: {difference.only_first} images only {first.name} has right, "
        f"{difference.only_other} only {other.name}: p = {difference.mcnemar:.3g}"
    )
    print("\n" + verdict(first, other, difference))


def print_many(first: Run, others: list[Run], differences: list[Difference]) -> None:
    """Print a row a run, with p-values corrected for the number of comparisons, and the verdicts."""
    corrected = holm([difference.p_value for difference in differences])
    table = pd.DataFrame(
        {
            **{name: [difference.metrics.loc[name, "other"] for difference in differences] for name in HEADLINES},
            "difference": [difference.metrics.loc["balanced_accuracy", "difference"] for difference in differences],
            "low": [difference.metrics.loc["balanced_accuracy", "low"] for difference in differences],
            "high": [difference.metrics.loc["balanced_accuracy", "high"] for difference in differences],
            "p": corrected,
            "McNemar p": holm([difference.mcnemar for difference in differences]),
        },
        index=[other.name for other in others],
    )
    of_first = pd.DataFrame(
        {name: [differences[0].metrics.loc[name, "first"]] for name in HEADLINES}, index=[first.name]
    )
    print(
        f"\nMetrics; the difference in balanced accuracy from {first.name} and its 95 % interval (of this one "
        f"difference alone);\np-values of that difference and of McNemar's exact test on accuracy, Holm-corrected for "
        f"{len(others)} comparisons"
    )
    print(pd.concat([of_first, table]).to_string(float_format="%.3f", na_rep=""))
    print()
    for other, difference, p in zip(others, differences, corrected, strict=True):
        print(verdict(first, other, difference, p))


if __name__ == "__main__":
    run(main)
