"""Train the head n times, with the seeds 1 to n of split and training, on the features that are there.

What a run of the pipeline gives depends on both draws; mean and standard deviation over them say how much. Nothing in
the project changes but the file of --out. Run from the top folder of the project, after dvc repro features.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dermoscopy.data.tables import read_table, write_json
from dermoscopy.model.repetition import require_current_features, train_each, trainings_of_seeds
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import ParamsError
from dermoscopy.runtime.files import standard_stream, user_output
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import MANIFEST, REPETITIONS
from dermoscopy.scoring.evaluation import evaluate_without_intervals
from dermoscopy.scoring.metrics import HEADLINES, Metrics

AVERAGED = (*HEADLINES, "log_loss", "log_loss_calibrated", "ece", "ece_calibrated")
# sections that make the features, or change no number
FIXED = {"data", "backbone", "augmentation", "features", "report"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.repeat", description=__doc__)
    parser.add_argument("-n", type=int, default=5, metavar="N", help="how often, 2 to 100; default 5")
    parser.add_argument(
        "-S", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="change a param, as dvc exp run -S"
    )
    parser.add_argument(
        "--out", type=Path, default=REPETITIONS, metavar="FILE", help=f"- for standard output; default: {REPETITIONS}"
    )
    arguments = parser.parse_args()
    if not 2 <= arguments.n <= 100:
        parser.error("-n must be from 2 to 100")

    params = changed_params(arguments.changes)
    manifest = read_table(MANIFEST, "image_id", "label", "lesion_id", "sha256")
    require_current_features(manifest, params)
    trainings = trainings_of_seeds(params, manifest, range(1, arguments.n + 1))
    with user_output(arguments.out) as path:
        done = train_each(trainings)
        scores = [
            evaluate_without_intervals(trained.predictions, training, params.evaluate)
            for training, trained in zip(trainings, done, strict=True)
        ]
        of_part = {part: run_table([score[part] for score in scores]) for part in scores[0]}
        runs = pd.concat(of_part, axis="columns")
        write_json(
            {
                "params": arguments.changes,
                "n": arguments.n,
                "mean": nested(runs.mean(skipna=False)),
                "standard_deviation": nested(runs.std(skipna=False)),
                "runs": [
                    {"seed": seed, "epochs": trained.epochs} | nested(row)
                    for trained, (seed, row) in zip(done, runs.iterrows(), strict=True)
                ],
            },
            path,
        )
    taken = standard_stream(arguments.out) == 1
    out, where = (sys.stderr, "standard output") if taken else (sys.stdout, str(arguments.out))
    for part, table in of_part.items():
        print(f"\n{part}, by seed", file=out)
        print(summary_table(table).to_string(float_format="%.3f", na_rep=""), file=out)
    print(f"repeat: {arguments.n} splits and trainings; all numbers are in {where}", file=out)


def changed_params(changes: Sequence[str]) -> Params:
    """Return the params with changes; a ParamsError if one is of what repeating does not do, or decides itself."""
    stored, params = load_params(), load_params(changes=changes)
    different = {
        f"{section}.{key}"
        for section, values in params
        for key, value in values
        if value != getattr(getattr(stored, section), key)
    }
    if params.augmentation.views < stored.augmentation.views:
        different.discard("augmentation.views")
    if beyond := sorted(key for key in different if key.split(".")[0] in FIXED or key.endswith(".seed")):
        raise ParamsError(
            f"{beyond[0]} cannot be changed here, where only split, training and evaluation are repeated, on the "
            "features that are there, and the seeds are counted: use dvc exp run"
        )
    return params


def run_table(metrics: Sequence[Metrics]) -> pd.DataFrame:
    """Return a row a run, by seed, of the averaged metrics; those that were not computed are left out."""
    rows = [values.model_dump(include={*AVERAGED}, exclude_unset=True) for values in metrics]
    table = pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1), dtype=float)
    return table[[name for name in AVERAGED if name in table]]


def summary_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a column a run, and their mean and standard deviation; a row a metric."""
    return runs.T.assign(mean=runs.mean(skipna=False), sd=runs.std(skipna=False))


def nested(values: "pd.Series[float]") -> dict[str, Any]:
    """Return metrics by part, of a series whose index has part and metric."""
    return {str(part): of_part.droplevel(0).to_dict() for part, of_part in values.groupby(level=0, sort=False)}


if __name__ == "__main__":
    run_command(main)
