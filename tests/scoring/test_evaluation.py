"""The evaluation of a run, and the stage that writes it from prediction tables in files."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.tables import read_table, write_table
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.calibration import apply_temperature, fit_temperature
from dermoscopy.scoring.evaluation import add_calibrated, balanced_accuracy_in_words, evaluate_parts, summary
from dermoscopy.scoring.metrics import Metrics, point_metrics, read_metrics, score
from stages import evaluate as stage
from tests.support.params_file import PARAMS, write_params
from tests.support.prediction_tables import drawn_images, eight_images

PLOTS = ["confusion_matrix.csv", "confusion_matrix.png", "precision_recall.csv", "reliability.csv", "roc.csv"]
EVALUATE = PARAMS.evaluate


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """100 images for validation and 200 to test."""
    table = drawn_images()
    return table.assign(part=np.where(table.index < 100, "validation", "test"))


@pytest.fixture(scope="module")
def manifest(many: pd.DataFrame) -> pd.DataFrame:
    """What the manifest knows of these images; their order is another."""
    known = many[["image_id", "lesion_id"]].assign(sex=["male", "female", ""] * 100, age=np.arange(300) % 90.0)
    return known[::-1]


@pytest.fixture(scope="module")
def predictions(many: pd.DataFrame) -> pd.DataFrame:
    return many.drop(columns="lesion_id")


class TestEvaluateParts:
    """Every part scored, the test part calibrated on validation."""

    def test_each_part_is_scored_with_the_lesions_of_the_manifest(
        self, predictions: pd.DataFrame, manifest: pd.DataFrame, many: pd.DataFrame
    ) -> None:
        metrics = evaluate_parts(predictions, manifest, EVALUATE.model_copy(update={"calibrate": False})).metrics
        assert list(metrics) == ["validation", "test"]
        for part, values in metrics.items():
            assert values == score(many[many["part"] == part], EVALUATE.malignant, EVALUATE.seed)
        assert (metrics["validation"].support, metrics["test"].support) == (100, 200)

    def test_the_temperature_is_fitted_on_validation_and_applied_to_test(
        self, predictions: pd.DataFrame, manifest: pd.DataFrame, many: pd.DataFrame
    ) -> None:
        found = evaluate_parts(predictions, manifest, EVALUATE)
        temperature = fit_temperature(many[:100])
        calibrated, test = point_metrics(apply_temperature(many[100:], temperature)), found.metrics["test"]
        assert test.temperature == pytest.approx(temperature)
        assert test.log_loss_calibrated == pytest.approx(calibrated.log_loss)
        assert test.ece_calibrated == pytest.approx(calibrated.ece)
        assert test.log_loss == pytest.approx(point_metrics(many[100:]).log_loss)
        images = found.reliability.groupby("probabilities", sort=False)["images"].sum()
        assert images.to_dict() == {"as predicted": 200, "calibrated": 200}

    def test_without_calibration_nothing_else_changes(self, predictions: pd.DataFrame, manifest: pd.DataFrame) -> None:
        calibrated, plain = (
            evaluate_parts(predictions, manifest, EVALUATE.model_copy(update={"calibrate": calibrate}))
            for calibrate in (True, False)
        )
        added = {"temperature", "log_loss_calibrated", "ece_calibrated"}
        assert calibrated.metrics["validation"] == plain.metrics["validation"]
        with_added = calibrated.metrics["test"].model_dump(exclude_unset=True)
        assert with_added.keys() & added == added
        assert {name: value for name, value in with_added.items() if name not in added} == plain.metrics[
            "test"
        ].model_dump(exclude_unset=True)
        assert set(plain.reliability["probabilities"]) == {"as predicted"}

    def test_without_a_test_part_validation_is_shown_and_nothing_calibrated(
        self, predictions: pd.DataFrame, manifest: pd.DataFrame
    ) -> None:
        found = evaluate_parts(predictions[:100], manifest, EVALUATE)
        assert list(found.metrics) == ["validation"]
        assert "temperature" not in found.metrics["validation"].model_fields_set
        assert list(found.shown["image_id"]) == list(predictions["image_id"][:100])

    def test_subgroups_are_of_each_part(self, predictions: pd.DataFrame, manifest: pd.DataFrame) -> None:
        table = evaluate_parts(predictions, manifest, EVALUATE).subgroups
        images = table.pivot_table("images", "part", "variable", aggfunc="sum")
        assert images.loc["validation"].to_dict() == {"age_band": 100, "sex": 100}
        assert images.loc["test"].to_dict() == {"age_band": 200, "sex": 200}

    def test_no_class_that_is_absent_from_a_part_makes_a_library_warn(
        self, predictions: pd.DataFrame, manifest: pd.DataFrame
    ) -> None:
        without = predictions[(predictions["label"] != "akiec") | (predictions["part"] == "validation")]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert evaluate_parts(without, manifest, EVALUATE).metrics["test"].macro_auc is None


@pytest.mark.parametrize(("temperature", "at_its_limit"), [(1.3, False), (0.0501, True), (19.9, True)])
def test_a_temperature_at_its_limit_is_noted(many: pd.DataFrame, temperature: float, at_its_limit: bool) -> None:
    metrics = point_metrics(many)
    notes = add_calibrated(metrics, many, temperature).notes
    assert [f"the temperature, {temperature:.2f}, is at its limit" in note for note in notes] == [True] * at_its_limit
    assert metrics.notes == []


def test_the_summary_is_one_line_a_part_with_or_without_an_interval() -> None:
    metrics = point_metrics(eight_images())
    in_words = "accuracy 0.625, balanced accuracy 0.722 (no interval), macro F1 0.635 on 8 images"
    assert summary({"validation": metrics, "test": metrics}) == [f"validation: {in_words}", f"test: {in_words}"]
    with_interval = metrics.model_copy(update={"balanced_accuracy_ci": (0.25, 0.8753)})
    assert balanced_accuracy_in_words(with_interval) == "balanced accuracy 0.722 (0.250 to 0.875)"


class TestStage:
    """The stage as a whole, on tables in files."""

    @pytest.fixture
    def project(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predictions: pd.DataFrame, manifest: pd.DataFrame
    ) -> Path:
        """Predictions for validation and test; with all views each image is taken for nv."""
        monkeypatch.chdir(tmp_path)
        write_table(predictions, Path("data/predictions.csv"))
        write_table(predictions.assign(predicted="nv"), Path("data/predictions_tta.csv"))
        write_table(manifest, Path("data/manifest.csv"))
        return tmp_path

    def run_stage(self, project: Path, **changes: Any) -> dict[str, Metrics]:
        write_params(project, {"evaluate": {"tta": False, **changes}})
        stage.main(**sections_of(stage.main))
        return read_metrics()

    def test_the_files_hold_the_evaluation(
        self, project: Path, predictions: pd.DataFrame, manifest: pd.DataFrame
    ) -> None:
        metrics = self.run_stage(project)
        expected = evaluate_parts(read_table(Path("data/predictions.csv")), manifest, EVALUATE)
        assert metrics == expected.metrics
        text = (project / "metrics/metrics.json").read_text(encoding="utf-8")
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert sorted(path.name for path in (project / "plots").iterdir()) == PLOTS
        shown = read_table(Path("plots/confusion_matrix.csv"))
        assert shown.to_numpy().tolist() == predictions[100:][["label", "predicted"]].to_numpy().tolist()
        columns = ["confidence", "accuracy", "images", "probabilities"]
        assert list(pd.read_csv("plots/reliability.csv").columns) == columns
        numbers = ["images", "lesions", "balanced_accuracy", "low", "high"]
        assert list(pd.read_csv("metrics/subgroups.csv").columns) == ["part", "variable", "group", *numbers, "note"]

    def test_tta_decides_which_predictions_are_scored(self, project: Path) -> None:
        one_view, all_views = (self.run_stage(project, tta=tta)["test"].per_class["mel"] for tta in (False, True))
        assert (one_view.recall or 0) > 0.5
        assert all_views.recall == 0

    def test_small_subgroups_are_in_one_warning(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.run_stage(project)
        table = pd.read_csv("metrics/subgroups.csv")
        small = table[table["images"] < 20]
        assert len(small)
        assert small["note"].str.startswith("under 20 images").all()
        (warning,) = [line for line in capsys.readouterr().err.splitlines() if "subgroups" in line]
        assert warning.startswith("warning: under 20 images are in the subgroups ")
        assert warning.count("validation age_band") == len(small)

    def test_the_same_predictions_give_the_same_bytes(self, project: Path) -> None:
        names = [Path("metrics/metrics.json"), Path("metrics/subgroups.csv"), *(Path("plots") / name for name in PLOTS)]
        self.run_stage(project)
        first = [name.read_bytes() for name in names]
        self.run_stage(project)
        assert [name.read_bytes() for name in names] == first

    def test_a_class_that_is_absent_from_a_part_leaves_null_and_a_warning(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = read_table(Path("data/predictions.csv"))
        write_table(table[(table["label"] != "akiec") | (table["part"] == "validation")], Path("data/predictions.csv"))
        self.run_stage(project)
        test = json.loads((project / "metrics/metrics.json").read_text(encoding="utf-8"))["test"]
        assert test["macro_auc"] is None
        assert test["per_class"]["akiec"]["auc"] is None
        assert "warning: test: no recall, F1, AUC or macro AUC for akiec: no image is of it" in capsys.readouterr().err

    def test_without_predictions_the_stage_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DataError, match=r"predictions_tta\.csv is missing"):
            self.run_stage(tmp_path, tta=True)
        assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
