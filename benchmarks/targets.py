"""What the pipeline should reach, and what was measured: the table of docs/performance.md.

python -m benchmarks.targets prints it from results.json.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from benchmarks.results import read_results
from benchmarks.startup import WITHOUT_TENSORFLOW
from benchmarks.timing import Row
from dermoscopy.runtime.commands import run_command

BEFORE_THE_DEMO = ("git clone", "environment", "in all")


class Target(NamedTuple):
    """A goal and its measurement, both in the same unit; `at_least` says whether the goal is a minimum or a maximum."""

    what: str
    measured: float
    unit: str
    goal: float
    at_least: bool

    @property
    def reached(self) -> bool:
        """Whether the measurement is as good as the goal."""
        return self.measured >= self.goal if self.at_least else self.measured <= self.goal


def main() -> None:
    print(as_markdown(read_results()))


def as_markdown(results: dict[str, Any]) -> str:
    """Return the table of all targets whose benchmarks have been run."""
    lines = ["| what | target | measured | |", "|---|---:|---:|---|"]
    for target in targets(results):
        bound = "at least" if target.at_least else "at most"
        reached = "reached" if target.reached else "**missed**"
        unit = f" {target.unit}".rstrip()
        measured = f"{target.measured:,.0f}" if target.measured >= 1000 else f"{target.measured:.3g}"
        lines.append(f"| {target.what} | {bound} {target.goal:g}{unit} | {measured}{unit} | {reached} |")
    return "\n".join(lines)


def targets(results: dict[str, Any]) -> Iterator[Target]:
    """Yield the targets, in the order of the pipeline."""
    if "features_stage" in results:
        yield from of_features(table(results, "features_stage"))
    if "backbones" in results:
        ours = where(table(results, "backbones"), backbone="ConvNeXtSmall", engine="OpenVINO (ours)")
        yield Target("its engine against TensorFlow, ConvNeXtSmall", ours[0]["times TensorFlow"], "times", 5, True)
    if "original_study" in results:
        study = where(table(results, "original_study", 1), backbone="InceptionResNetV2")[0]
        yield Target("first full run against the original study's recipe", study["times faster"], "times", 3, True)
    if "cluster" in results:
        worker = table(results, "cluster")[1]["time, times the first"]
        yield Target("features stage by one Ray worker against alone, time", worker, "times", 1.05, False)
    if "variation" in results:
        variation = [row["s"] for row in table(results, "variation")]
        slowest = max(variation)
        yield Target("`dvc exp run -S train.dropout=0.4`, 10,015 images, the slowest", slowest, "s", 20, False)
        times = max(row["times import tensorflow"] for row in table(results, "variation"))
        yield Target("the same against a bare `import tensorflow`, the slowest", times, "times", 3, False)
        if "original_study" in results:
            seconds = 3600 * next(value for key, value in study.items() if key.startswith("the study"))
            yield Target("the same against the study's recipe", seconds / slowest, "times", 300, True)
        idle = where(table(results, "variation", 3), command="dvc repro")[0]["s"]
        yield Target("`dvc repro` with nothing to do, 10,015 images", idle, "s", 2, False)
    if "startup" in results:
        for row in table(results, "startup"):
            if row["module"].removeprefix("stages.") in WITHOUT_TENSORFLOW:
                yield Target(f"start-up of {row['module']}", row["s"], "s", 1.5, False)
    if "prediction" in results:
        rows = table(results, "prediction")
        command = where(rows, part="the command, one image")[0]["s"]
        yield Target("`tools.predict`, one image, InceptionResNetV2", command, "s", 1.5, False)
        tensorflow = where(rows, part="import tensorflow, for comparison")[0]["s"]
        yield Target("the same against a bare `import tensorflow`", command / tensorflow, "times", 0.25, False)
    if "first_result" in results:
        rows = [row for row in table(results, "first_result") if row["part"] not in BEFORE_THE_DEMO]
        yield Target("`make demo` after installation", sum(row["s"] for row in rows), "s", 40, False)
    if "growth" in results:
        features, rows = table(results, "growth"), table(results, "growth", 1)
        exponent = where(features, images="exponent")[0]["work, s"]
        yield Target(
            "growth of features, exponent from 200 to 3,200 images, away from 1", abs(exponent - 1), "", 0.05, False
        )
        for row in rows:
            numbers = f", {row['numbers an image']} numbers each" if row["numbers an image"] else ""
            yield Target(f"memory of {row['stage']}, 1,000,000 images{numbers}", row["peak MB"], "MB", 4096, False)
    if "growth_of_manifest" in results:
        largest = table(results, "growth_of_manifest")[-1]
        yield Target("memory of manifest, 1,000,000 images", largest["peak MB"], "MB", 4096, False)


def of_features(rows: list[Row]) -> Iterator[Target]:
    """Yield the targets of the features stage."""
    speed = "stage's speed, times this"
    for backbone, faster in (("InceptionResNetV2", 1.3), ("DenseNet121", 1.5)):
        bare = where(rows, backbone=backbone, what="bare engine")[0]
        yield Target(f"features stage against its bare engine, {backbone}", bare[speed], "times", 0.95, True)
        tensorflow = where(rows, backbone=backbone, what="TensorFlow")[0]
        yield Target(f"features stage against TensorFlow, {backbone}", tensorflow[speed], "times", faster, True)
    limits = [row for row in where(rows, backbone="InceptionResNetV2") if row["what"].startswith("limit")]
    share = min(row[speed] for row in limits)
    yield Target("features stage against the limit by a matrix product, InceptionResNetV2", share, "times", 0.75, True)


def table(results: dict[str, Any], benchmark: str, number: int = 0) -> list[Row]:
    """Return the rows of one of a benchmark's tables, by its number."""
    return list(list(results[benchmark]["tables"].values())[number])


def where(rows: list[Row], **values: str) -> list[Row]:
    """Return the rows that have these values."""
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


if __name__ == "__main__":
    run_command(main)
