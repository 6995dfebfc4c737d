"""The evaluation of a run, and the stage that writes it from prediction tables in files."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermoscopy.data.tables import read_table, write_table
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.calibration import Calibration, apply_calibration, fit_calibration
from dermoscopy.scoring.clinical_gain import COLUMNS
from dermoscopy.scoring.evaluation import (
    Calibrated,
    add_calibrated,
    balanced_accuracy_in_words,
    evaluate_parts,
    evaluate_without_intervals,
    summary,
)
from dermoscopy.scoring.metrics import Metrics, point_metrics, read_metrics, score
from dermoscopy.scoring.predictions import class_names, decide
from stages import evaluate as stage
from tests.support.params_file import PARAMS, write_params
from tests.support.prediction_tables import drawn_images, eight_images

PLOTS = [
    *("confusion_matrix.csv", "confusion_matrix.png", "precision_recall.csv", "reliability.csv", "roc.csv"),
    "trade_off.csv",
]
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
def head(many: pd.DataFrame) -> HeadInfo:
    """Trained on classes as uneven as those of HAM10000, with weights that half balance them."""
    classes = class_names(many)
    prior = np.geomspace(1, 60, len(classes)) / np.geomspace(1, 60, len(classes)).sum()
    return HeadInfo(
        classes=classes,
        prior=prior.tolist(),
        class_weights=(prior**-0.5).tolist(),
        backbone="0",
        augmentation=PARAMS.augmentation,
    )


@pytest.fixture(scope="module")
def predictions(many: pd.DataFrame) -> pd.DataFrame:
    return many.drop(columns=["lesion_id", "group_id"])


class TestEvaluateParts:
    """Every part scored, the test part calibrated on validation."""

    def test_each_part_is_scored_with_the_lesions_of_the_manifest(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame, many: pd.DataFrame
    ) -> None:
        metrics = evaluate_parts(predictions, head, manifest, EVALUATE.model_copy(update={"calibrate": False})).metrics
        assert list(metrics) == ["validation", "test"]
        for part, values in metrics.items():
            assert values == score(many[many["part"] == part], EVALUATE.malignant, EVALUATE.seed)
        assert (metrics["validation"].support, metrics["test"].support) == (100, 200)

    def test_the_calibration_is_fitted_on_validation_and_applied_to_test(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame, many: pd.DataFrame
    ) -> None:
        found = evaluate_parts(predictions, head, manifest, EVALUATE)
        calibration = fit_calibration(many[:100], head.class_weights)
        calibrated, test = point_metrics(apply_calibration(many[100:], calibration)), found.metrics["test"]
        assert test.temperature == pytest.approx(calibration.temperature)
        assert test.biases == pytest.approx(calibration.biases)
        means = {name: values.mean_probability_calibrated for name, values in test.per_class.items()}
        assert means == pytest.approx({name: values.mean_probability for name, values in calibrated.per_class.items()})
        assert test.log_loss_calibrated == pytest.approx(calibrated.log_loss)
        assert test.ece_calibrated == pytest.approx(calibrated.ece)
        assert test.log_loss == pytest.approx(point_metrics(many[100:]).log_loss)
        images = found.reliability.groupby("probabilities", sort=False)["images"].sum()
        assert images.to_dict() == {"as predicted": 200, "calibrated": 200}

    def test_without_calibration_nothing_else_changes(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        calibrated, plain = (
            evaluate_parts(predictions, head, manifest, EVALUATE.model_copy(update={"calibrate": calibrate}))
            for calibrate in (True, False)
        )
        added = {"temperature", "biases", "log_loss_calibrated", "ece_calibrated"}
        assert calibrated.metrics["validation"] == plain.metrics["validation"]
        with_added = calibrated.metrics["test"].model_dump(exclude_unset=True)
        assert with_added.keys() & added == added
        for values in with_added["per_class"].values():
            assert values.pop("mean_probability_calibrated") > 0
        assert {name: value for name, value in with_added.items() if name not in added} == plain.metrics[
            "test"
        ].model_dump(exclude_unset=True)
        assert set(plain.reliability["probabilities"]) == {"as predicted"}

    def test_without_a_test_part_validation_is_shown_and_nothing_calibrated(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        found = evaluate_parts(predictions[:100], head, manifest, EVALUATE)
        assert list(found.metrics) == ["validation"]
        assert "temperature" not in found.metrics["validation"].model_fields_set
        assert list(found.shown["image_id"]) == list(predictions["image_id"][:100])

    def test_subgroups_are_of_each_part(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        table = evaluate_parts(predictions, head, manifest, EVALUATE).subgroups
        images = table.pivot_table("images", "part", "variable", aggfunc="sum")
        assert images.loc["validation"].to_dict() == {"age_band": 100, "sex": 100}
        assert images.loc["test"].to_dict() == {"age_band": 200, "sex": 200}

    def test_no_class_that_is_absent_from_a_part_makes_a_library_warn(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        without = predictions[(predictions["label"] != "akiec") | (predictions["part"] == "validation")]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert evaluate_parts(without, head, manifest, EVALUATE).metrics["test"].macro_auc is None

    def test_without_intervals_the_numbers_are_the_same(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        evaluate = EVALUATE.model_copy(update={"prior_exponent": 0.5})
        whole = evaluate_parts(predictions, head, manifest, evaluate).metrics
        points = evaluate_without_intervals(predictions, head, evaluate)
        for part, values in points.items():
            same = {name: getattr(whole[part], name) for name in values.model_fields_set - {"per_class", "notes"}}
            assert same == {name: getattr(values, name) for name in same}
            assert {"accuracy", "balanced_accuracy", "log_loss"} <= same.keys()

    def test_the_prior_exponent_changes_decisions_and_no_probability(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame, many: pd.DataFrame
    ) -> None:
        evaluate = EVALUATE.model_copy(update={"prior_exponent": 1.0})
        plain = evaluate_parts(predictions, head, manifest, EVALUATE)
        adjusted = evaluate_parts(predictions, head, manifest, evaluate)
        expected = decide(many[100:], head.prior, 1.0)["predicted"]
        assert list(adjusted.shown["predicted"]) == list(expected)
        assert list(expected) != list(many[100:]["predicted"])
        for name in ("macro_auc", "log_loss", "ece", "log_loss_calibrated"):
            assert getattr(adjusted.metrics["test"], name) == getattr(plain.metrics["test"], name)
        pd.testing.assert_frame_equal(adjusted.reliability, plain.reliability)

    def test_the_prior_exponent_decides_for_the_head_without_clinical_data_too(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        evaluate = EVALUATE.model_copy(update={"prior_exponent": 1.0})
        gains = evaluate_parts(predictions, head, manifest, evaluate, image_only=predictions).gains
        assert set(gains["variable"]) == {"overall", "sex", "age_band"}
        assert gains["image_only"].tolist() == gains["with_clinical"].tolist()

    def test_the_trade_off_is_of_validation_and_has_the_chosen_exponent(
        self, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        evaluate = EVALUATE.model_copy(update={"prior_exponent": 0.3})
        found = evaluate_parts(predictions, head, manifest, evaluate)
        table = found.trade_off.set_index("prior_exponent")
        assert table.index.is_monotonic_increasing
        assert [table.index[0], table.index[-1]] == [-1, 1]
        metrics = found.metrics["validation"]
        assert list(table.loc[0.3]) == pytest.approx([metrics.accuracy, metrics.balanced_accuracy])
        plain = evaluate_parts(predictions, head, manifest, EVALUATE).metrics["validation"]
        assert list(table.loc[0.0]) == pytest.approx([plain.accuracy, plain.balanced_accuracy])


@pytest.mark.parametrize(("temperature", "at_its_limit"), [(1.3, False), (0.0501, True), (19.9, True)])
def test_a_temperature_at_its_limit_is_noted(many: pd.DataFrame, temperature: float, at_its_limit: bool) -> None:
    metrics = point_metrics(many)
    calibration = Calibration(temperature, dict.fromkeys(class_names(many), 0.0))
    notes = add_calibrated(metrics, Calibrated(many, calibration)).notes
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
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        predictions: pd.DataFrame,
        head: HeadInfo,
        manifest: pd.DataFrame,
    ) -> Path:
        """Predictions for validation and test; with all views each image is taken for nv."""
        monkeypatch.chdir(tmp_path)
        write_table(predictions, Path("data/predictions.csv"))
        certain = {f"p_{name}": float(name == "nv") for name in class_names(predictions)}
        write_table(predictions.assign(predicted="nv", **certain), Path("data/predictions_tta.csv"))
        write_table(predictions[:0].assign(tta=""), Path("data/predictions_image_only.csv"))
        write_table(manifest, Path("data/manifest.csv"))
        Path("models").mkdir()
        Path("models/head.json").write_text(head.model_dump_json(), encoding="utf-8")
        return tmp_path

    def run_stage(self, project: Path, **changes: Any) -> dict[str, Metrics]:
        write_params(project, {"evaluate": {"tta": False, **changes}})
        stage.main(**sections_of(stage.main))
        return read_metrics()

    def test_the_files_hold_the_evaluation(
        self, project: Path, predictions: pd.DataFrame, head: HeadInfo, manifest: pd.DataFrame
    ) -> None:
        metrics = self.run_stage(project)
        expected = evaluate_parts(read_table(Path("data/predictions.csv")), head, manifest, EVALUATE)
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
        assert (project / "metrics/clinical_gain.csv").read_text(encoding="utf-8") == ",".join(COLUMNS) + "\n"

    def test_clinical_data_gain_against_the_same_views_of_the_image_alone(self, project: Path) -> None:
        one_view, all_views = (read_table(Path(f"data/predictions{name}.csv")) for name in ("", "_tta"))
        both = pd.concat([all_views.assign(tta="false"), one_view.assign(tta="true")])
        write_table(both, Path("data/predictions_image_only.csv"))
        balanced = {tta: self.run_stage(project, tta=tta)["test"].balanced_accuracy for tta in (True, False)}
        table = pd.read_csv("metrics/clinical_gain.csv")
        assert set(table["part"]) == {"test"}
        assert table["image_only"].iloc[0] == pytest.approx(balanced[True])
        assert table["with_clinical"].iloc[0] == pytest.approx(balanced[False])

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
        counts = f"{len(small)} of {len(table)} subgroups"
        assert warning == f"warning: {counts} have under 20 images: see metrics/subgroups.csv"

    def test_a_warning_of_both_parts_is_one_line(self, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.run_stage(project, malignant=["mel", *map(str, range(9))])
        lines = [line for line in capsys.readouterr().err.splitlines() if "malignant" in line]
        strange = "0, 1, 2, 3, 4, and 4 more"
        assert lines == [
            f"warning: validation and test: evaluate.malignant names {strange}, which the model does not know"
        ]

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
