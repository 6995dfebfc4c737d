"""Compare runs, Git revisions or DVC experiments, on their test images: better, worse, or not distinguishable.

Nothing is checked out; `workspace` stands for the files as they are. Run from the top folder of the project. With
--seeds the params of each run are trained again, on the features of the run, once for each seed of split and training.
"""

import argparse

import pandas as pd

from dermoscopy.data.groups import of_lesions
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.paths import PREDICTIONS_TTA
from dermoscopy.scoring.comparison import Difference, compare, holm, verdict
from dermoscopy.scoring.metrics import HEADLINES
from dermoscopy.scoring.repeated_runs import RepeatedRun, certain, difference_table, repeated_verdict, train_again
from dermoscopy.scoring.runs import Run, load_run, params_that_differ, require_same_images

ONE_TRAINING = (
    "One training of each run is compared: intervals and p-values cover the choice of test images, not the randomness\n"
    "of training. To cover it too, train both sides with several seeds: --seeds n."
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("first", metavar="A", help="what the others are compared with: revision, experiment, workspace")
    parser.add_argument("others", metavar="B", nargs="+", help="one or more of the same")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="train each again with the seeds 1 to N, 2 to 100, and compare these"
    )
    arguments = parser.parse_args()
    names = [arguments.first, *arguments.others]
    if arguments.seeds is not None:
        if not 2 <= arguments.seeds <= 100:
            parser.error("--seeds must be from 2 to 100")
        print_repeated(train_again(names, range(1, arguments.seeds + 1)))
        return

    first, *others = runs = [load_run(name) for name in names]
    for other in others:
        require_same_images(first, other)
    differences = [compare(first, other) for other in others]
    print(f"{len(first.test)} test images{of_lesions(first.test)}. Scored from:")
    for item in runs:
        views = "the mean over all views" if item.scored == PREDICTIONS_TTA else "the image alone"
        print(f"  {item.name}: {views} ({item.scored})")
    params = params_that_differ(runs)
    print("\nParams that differ" + (f"\n{params.to_string()}" if len(params) else ": none"))
    if len(others) == 1:
        print_pair(first, others[0], differences[0])
    else:
        print_many(first, others, differences)


def print_pair(first: Run, other: Run, difference: Difference) -> None:
    """Print metrics side by side, the tests and the verdict."""
    table = difference.metrics.rename(columns={"first": first.name, "other": other.name})
    print(f"\nMetrics, {other.name} minus {first.name}, and the 95 % interval of the difference")
    print(table.to_string(float_format="%.3f", na_rep=""))
    print(
        f"\nMcNemar's exact test on accuracy: {difference.only_first} images only {first.name} has right, "
        f"{difference.only_other} only {other.name}: p = {difference.mcnemar:.3g}"
        f"\nSign-flip test on balanced accuracy, over lesions or patients: p = {difference.p_value:.3g}"
    )
    print(f"\n{ONE_TRAINING}\n")
    print(verdict(first, other, difference))


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
        "difference alone);\np-values of that difference (sign-flip test over lesions or patients) and of McNemar's "
        f"exact test on accuracy,\nHolm-corrected for {len(others)} comparisons"
    )
    print(pd.concat([of_first, table]).to_string(float_format="%.3f", na_rep=""))
    print(f"\n{ONE_TRAINING}\n")
    for other, difference, p in zip(others, differences, corrected, strict=True):
        print(verdict(first, other, difference, p))


def print_repeated(runs: list[RepeatedRun]) -> None:
    """Print the differences between runs that were trained several times, and the verdicts."""
    first, *others = runs
    print(
        f"{len(first.metrics)} seeds of split and training: mean test metrics, the mean difference seed by seed,\n"
        "its 95 % interval and its p-value, for trainings that share images (Nadeau and Bengio 2003)"
    )
    differences = []
    for other in others:
        table, difference = difference_table(first, other)
        differences.append(difference)
        print(f"\n{table.to_string(float_format='%.3f', na_rep='')}")
    print()
    if len(others) == 1:
        print(repeated_verdict(first, others[0], differences[0]))
        return
    corrected = holm([certain(difference) for difference in differences])
    for other, difference, p in zip(others, differences, corrected, strict=True):
        print(repeated_verdict(first, other, difference, p))


if __name__ == "__main__":
    run_command(main)
