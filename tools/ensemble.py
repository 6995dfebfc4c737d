"""Score the ensemble of several runs, Git revisions or DVC experiments: the mean of their probabilities.

Nothing is trained or checked out; `workspace` stands for the files as they are. All must have the same validation and
test images. The ensemble is compared with its best member, the one of the highest balanced accuracy on validation. With
--greedy the members are picked one by one, again and again, for the lowest log loss on validation; how often each was
picked is its weight. Run from the top folder of the project.
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermoscopy.data.groups import of_lesions
from dermoscopy.data.tables import write_json
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.files import standard_stream, user_output
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import ENSEMBLE
from dermoscopy.runtime.progress import progress
from dermoscopy.scoring.bootstrap import DRAWS
from dermoscopy.scoring.comparison import Difference, compare, verdict
from dermoscopy.scoring.ensembles import best_member, combine, require_members, select
from dermoscopy.scoring.metrics import HEADLINES, Metrics, point_metrics, score
from dermoscopy.scoring.runs import Run, load_run

SHOWN = {
    "validation": ("balanced_accuracy", "accuracy", "log_loss"),
    "test": ("balanced_accuracy", "accuracy", "macro_f1", "macro_auc", "log_loss", "ece"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.ensemble", description=__doc__)
    parser.add_argument("first", metavar="A", help="a member: revision, experiment, workspace")
    parser.add_argument("others", metavar="B", nargs="+", help="one or more of the same")
    parser.add_argument("--greedy", action="store_true", help="choose and weigh the members by log loss on validation")
    parser.add_argument(
        "--out", type=Path, default=ENSEMBLE, metavar="FILE", help=f"- for standard output; default: {ENSEMBLE}"
    )
    arguments = parser.parse_args()

    evaluate = load_params().evaluate
    members = [load_run(name) for name in (arguments.first, *arguments.others)]
    require_members(members)
    weights = select(members) if arguments.greedy else [1] * len(members)
    ensemble, best = combine(members, weights), best_member(members)
    with user_output(arguments.out) as path:
        metrics = [part_metrics(run) for run in (*members, ensemble)]
        with progress("bootstrap", DRAWS, "draw", in_logs=False) as bar:
            metrics[-1]["test"] = score(ensemble.test, evaluate.malignant, evaluate.seed, bar.update)
        difference = compare(best, ensemble)
        names = [member.name for member in members]
        rows = zip(names, weights, metrics[:-1], strict=True)
        write_json(
            {
                "greedy": arguments.greedy,
                "members": [{"name": name, "weight": weight} | dumped(values) for name, weight, values in rows],
                **dumped(metrics[-1]),
                "best_member": best.name,
                "difference": difference.metrics.loc[[*HEADLINES]].to_dict(orient="index"),
                "p_value": difference.p_value,
            },
            path,
        )
    taken = standard_stream(arguments.out) == 1
    with redirect_stdout(sys.stderr if taken else sys.stdout):
        print_members(names, weights, metrics, ensemble)
        print_ensemble(metrics[-1]["test"], best, ensemble, difference)
        used = sum(weight > 0 for weight in weights)
        where = "standard output" if taken else arguments.out
        print(f"ensemble: the mean of {used} of {len(members)} runs; all numbers are in {where}")


def part_metrics(run: Run) -> dict[str, Metrics]:
    """Return the metrics of both parts, without intervals."""
    return {"validation": point_metrics(run.validation), "test": point_metrics(run.test)}


def dumped(metrics: dict[str, Metrics]) -> dict[str, Any]:
    """Return the metrics as metrics/metrics.json holds them."""
    return {part: values.model_dump(mode="json", exclude_unset=True) for part, values in metrics.items()}


def print_members(
    names: Sequence[str], weights: Sequence[int], metrics: Sequence[dict[str, Metrics]], ensemble: Run
) -> None:
    """Print a row a member, and one of the ensemble, whose metrics are the last."""
    table = pd.DataFrame(
        {
            ("", "weight"): [*weights, sum(weights)],
            **{
                (part, name): [getattr(values[part], name) for values in metrics]
                for part, shown in SHOWN.items()
                for name in shown
            },
        },
        index=[*names, ensemble.name],
    )
    print(f"{len(ensemble.validation)} validation images, {len(ensemble.test)} test images{of_lesions(ensemble.test)}")
    print(table.to_string(float_format="%.3f", na_rep=""))
    if left_out := [name for name, weight in zip(names, weights, strict=True) if not weight]:
        print(f"Left out, because no pick of them lowered the log loss on validation most: {', '.join(left_out)}")


def print_ensemble(test: Metrics, best: Run, ensemble: Run, difference: Difference) -> None:
    """Print the test metrics of the ensemble with their intervals, and how it differs from its best member."""
    limits = [getattr(test, f"{name}_ci", None) or (np.nan, np.nan) for name in SHOWN["test"]]
    table = pd.DataFrame(limits, columns=["low", "high"], index=SHOWN["test"])
    table.insert(0, ensemble.name, [getattr(test, name) for name in table.index])
    print("\nThe ensemble on test images, and 95 % intervals")
    print(table.astype(float).to_string(float_format="%.3f", na_rep=""))
    for note in test.notes:
        print(f"test: {note}")
    print(f"\nThe ensemble minus {best.name}, the member of the highest balanced accuracy on validation")
    shown = difference.metrics.loc[[*HEADLINES]].rename(columns={"first": best.name, "other": ensemble.name})
    print(shown.to_string(float_format="%.3f", na_rep=""))
    print(f"\n{verdict(best, ensemble, difference)}")


if __name__ == "__main__":
    run_command(main)
