"""What the benchmarks measure in a real project: a variation, and what each stage imports."""

import pytest

from benchmarks.startup import WITHOUT_TENSORFLOW, Imports
from benchmarks.variation import vary
from benchmarks.workspace import Workspace

pytestmark = pytest.mark.slow


def test_a_variation_runs_listing_train_evaluate_and_report_and_nothing_else(project: Workspace) -> None:
    row = vary(project, 0.4)
    stages = [name.removesuffix(", s") for name in row if name.endswith(", s")]
    assert stages == ["DVC", "listing", "train", "evaluate", "report"]
    assert sum(row[f"{stage}, s"] for stage in stages) == pytest.approx(row["s"])
    assert row["epochs"] == 3
    assert row["accuracy"] == project.metrics()["test"]["accuracy"]


@pytest.mark.parametrize("stage", WITHOUT_TENSORFLOW)
def test_a_stage_that_needs_no_tensorflow_does_not_import_it_when_it_runs(project: Workspace, stage: str) -> None:
    modules = Imports(project.folder, f"stages.{stage}").modules
    assert f"stages.{stage}" not in modules  # it ran as __main__
    assert "dermoscopy.runtime.params" in modules
    assert "tensorflow" not in modules


def test_what_a_stage_imports_late_is_counted(project: Workspace) -> None:
    imports = Imports(project.folder, "stages.backbone")
    assert "tensorflow" in imports.modules
    imports.load()
