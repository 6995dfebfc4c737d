"""Finished runs: read from Git revisions and the workspace, and compared only where that is fair."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.workspace import Workspace
from dermoscopy.data.tables import write_table
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.paths import MANIFEST, PREDICTIONS, PREDICTIONS_TTA
from dermoscopy.scoring.runs import load_run, params_of, params_that_differ, require_same_images
from tests.support.prediction_tables import drawn_images, make_run, worsened


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return drawn_images(600, skill=2)


def write_run(folder: Path, table: pd.DataFrame) -> None:
    """Write the tables of a run; those of all views have only every other image."""
    write_table(table[["image_id", "lesion_id"]].assign(sha256=table["image_id"]), folder / MANIFEST)
    predictions = table.drop(columns=["lesion_id", "group_id"])
    predictions["part"] = ["validation", *["test"] * (len(table) - 1)]
    write_table(predictions, folder / PREDICTIONS)
    write_table(predictions[::2], folder / PREDICTIONS_TTA)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, table: pd.DataFrame) -> Path:
    """Two commits, and a workspace with a third table; before the first there is no table."""
    folder = tmp_path_factory.mktemp("runs")
    workspace = Workspace(folder / "project", folder / "cache", {})
    (workspace.folder / "dvc.yaml").unlink()
    (workspace.folder / ".gitignore").unlink()
    for number, params in enumerate(["{evaluate: {tta: true}}", "{evaluate: {tta: false}, new: [1]}", None]):
        if params is not None:
            (workspace.folder / "params.yaml").write_text(params)
        write_run(workspace.folder, table[number:])
        if params is not None:
            workspace.run("git", "add", "--all")
            workspace.run("git", "commit", "--quiet", "--message", f"run {number}")
    return workspace.folder


class TestLoadRun:
    """Runs of a project whose tables are in Git; the tests of tools/compare.py have some in DVC's cache."""

    @pytest.fixture(autouse=True)
    def here(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(project)

    def refusal(self, name: str) -> str:
        with pytest.raises(DataError) as error:
            load_run(name)
        assert "\n" not in str(error.value)
        return str(error.value)

    @pytest.mark.parametrize(
        ("name", "scored", "first", "params"),
        [
            ("HEAD~1", PREDICTIONS_TTA, 2, {"evaluate.tta": True}),
            ("HEAD", PREDICTIONS, 2, {"evaluate.tta": False, "new": [1]}),
            ("workspace", PREDICTIONS, 3, {"evaluate.tta": False, "new": [1]}),
        ],
    )
    def test_a_run_has_its_params_and_the_test_images_of_the_table_that_tta_chooses(
        self, table: pd.DataFrame, name: str, scored: Path, first: int, params: dict[str, Any]
    ) -> None:
        run = load_run(name)
        expected = table[first :: 2 if scored == PREDICTIONS_TTA else 1].sort_values("image_id", ignore_index=True)
        assert (run.name, run.scored, run.params) == (name, scored, params)
        pd.testing.assert_frame_equal(run.test[expected.columns], expected)
        assert (run.test["sha256"] == run.test["image_id"]).all()
        assert list(run.validation["image_id"]) == [
            table["image_id"][first - 1 if scored == PREDICTIONS else first - 2]
        ]
        assert list(run.validation.columns) == list(run.test.columns)
        assert run.prior is None

    def test_a_name_that_does_not_exist_is_refused(self) -> None:
        assert self.refusal("nothing").startswith("nothing cannot be read (")

    def test_a_revision_without_predictions_is_refused(self) -> None:
        assert self.refusal("HEAD~2").startswith("HEAD~2 cannot be read (")

    def test_a_workspace_without_predictions_is_refused(self, project: Path) -> None:
        predictions = (project / PREDICTIONS).read_bytes()
        (project / PREDICTIONS).unlink()
        try:
            assert self.refusal("workspace") == "data/predictions.csv is missing: run dvc repro, which makes it"
        finally:
            (project / PREDICTIONS).write_bytes(predictions)

    def test_params_of_another_project_are_refused(self, project: Path) -> None:
        params = (project / "params.yaml").read_bytes()
        (project / "params.yaml").write_text("{train: {epochs: 3}}")
        try:
            assert self.refusal("workspace").startswith("workspace has no param evaluate.tta: ")
        finally:
            (project / "params.yaml").write_bytes(params)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has no param evaluate.tta: "),
            ("a: [", "cannot be read ("),
            ("{evaluate: {tta: 1}}", "has evaluate.tta = 1 and evaluate.prior_exponent = 0: "),
            (
                "{evaluate: {tta: true, prior_exponent: high}}",
                "has evaluate.tta = True and evaluate.prior_exponent = 'h",
            ),
        ],
    )
    def test_params_that_cannot_be_read_are_one_line_with_the_name(
        self, project: Path, text: str, message: str
    ) -> None:
        params = (project / "params.yaml").read_bytes()
        (project / "params.yaml").write_text(text)
        try:
            with pytest.raises(DataError) as error:
                params_of("workspace")
        finally:
            (project / "params.yaml").write_bytes(params)
        assert str(error.value).startswith(f"workspace {message}")
        assert "\n" not in str(error.value)

    def test_a_run_without_test_images_is_refused(self, project: Path) -> None:
        predictions = (project / PREDICTIONS).read_bytes()
        (project / PREDICTIONS).write_bytes(predictions.replace(b",test,", b",validation,"))
        try:
            assert self.refusal("workspace").startswith("workspace has no test images (split.test = None)")
        finally:
            (project / PREDICTIONS).write_bytes(predictions)


class TestSameImages:
    """Only what was tested on the same images is compared."""

    def refusal(self, first: pd.DataFrame, other: pd.DataFrame) -> str:
        with pytest.raises(DataError, match=r"^a and b cannot be compared: ") as error:
            require_same_images(make_run("a", first), make_run("b", other))
        return str(error.value)

    def test_the_same_images_pass(self, table: pd.DataFrame) -> None:
        require_same_images(make_run("a", table), make_run("b", worsened(table, 9)))

    def test_other_images_are_refused(self, table: pd.DataFrame) -> None:
        assert "different images, 600 and 590 with 590 in common" in self.refusal(table, table[10:])

    @pytest.mark.parametrize(("column", "what"), [("label", "labels"), ("group_id", "lesions or patients")])
    def test_other_labels_and_lesions_are_refused(self, table: pd.DataFrame, column: str, what: str) -> None:
        changed = table.assign(**{column: table[column].mask(table.index == 5, "other")})
        assert f"1 of their test images have different {what}, the first is test_5" in self.refusal(table, changed)

    def test_other_contents_are_refused(self, table: pd.DataFrame) -> None:
        changed = make_run("b", table)
        changed.test.loc[3, "sha256"] = "other"
        with pytest.raises(DataError, match="different contents, the first is test_3"):
            require_same_images(make_run("a", table), changed)

    def test_validation_images_are_looked_at_where_they_are_asked_for(self, table: pd.DataFrame) -> None:
        first, cut = make_run("a", table), make_run("b", table, validation=table[10:])
        other = make_run("b", table)
        other.validation.loc[3, "sha256"] = "other"
        for run in (cut, other):
            require_same_images(first, run)
        with pytest.raises(DataError, match="validated on different images, 600 and 590 with 590 in common"):
            require_same_images(first, cut, "validation")
        with pytest.raises(DataError, match="1 of their validation images have different contents, the first is test_"):
            require_same_images(first, other, "validation")

    def test_other_classes_are_refused(self, table: pd.DataFrame) -> None:
        assert "different classes" in self.refusal(table, table.assign(p_vasc=0.0))


def test_params_that_differ_are_shown_and_what_a_run_lacks_is_empty(table: pd.DataFrame) -> None:
    runs = [
        make_run("a", table, x=1, y="b", z=[1]),
        make_run("b", table, x=1, y=None, z=[1]),
        make_run("c", table, x=1, z=[1], new=0.5),
    ]
    shown = params_that_differ(runs)
    assert shown.to_dict(orient="index") == {
        "y": {"a": "'b'", "b": "None", "c": ""},
        "new": {"a": "", "b": "", "c": "0.5"},
    }
