"""The evaluate stage: curves, subgroups, and the files that it writes from prediction tables in files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from dermoscopy.data.tables import class_names, read_table, write_table
from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.calibration import apply_temperature, fit_temperature
from dermoscopy.scoring.evaluation import (
    clinical,
    draw_confusion_matrix,
    precision_recall_curves,
    roc_curves,
    score_subgroups,
)
from dermoscopy.scoring.metrics import point_metrics, score
from stages import evaluate as stage
from tests.support.params_file import PARAMS, write_params
from tests.support.prediction_tables import drawn_images, eight_images

CLASSES = ["bkl", "mel", "nv"]
PLOTS = ["confusion_matrix.csv", "confusion_matrix.png", "precision_recall.csv", "reliability.csv", "roc.csv"]


@pytest.fixture
def by_hand() -> pd.DataFrame:
    return eight_images()


@pytest.fixture
def many() -> pd.DataFrame:
    return drawn_images()


def test_roc_curves_run_from_corner_to_corner_and_enclose_the_auc(many: pd.DataFrame) -> None:
    curves = roc_curves(many)
    assert list(curves.columns) == ["label", "false_positive_rate", "true_positive_rate"]
    metrics = point_metrics(many)
    assert list(curves["label"].unique()) == class_names(many)
    for name, curve in curves.groupby("label"):
        rates = curve[["false_positive_rate", "true_positive_rate"]].to_numpy()
        assert rates[0].tolist() == [0, 0]
        assert rates[-1].tolist() == [1, 1]
        assert (np.diff(rates, axis=0) >= 0).all()
        assert np.trapezoid(rates[:, 1], rates[:, 0]) == pytest.approx(metrics["per_class"][name]["auc"])


def test_a_roc_curve_is_that_computed_by_hand(by_hand: pd.DataFrame) -> None:
    curve = roc_curves(by_hand).query("label == 'mel'")
    # by falling probability: mel, nv, mel, nv, nv, (mel, nv), bkl
    corners = [(0, 0), (0, 1 / 3), (1 / 5, 1 / 3), (1 / 5, 2 / 3), (3 / 5, 2 / 3), (4 / 5, 1), (1, 1)]
    assert np.allclose(curve[["false_positive_rate", "true_positive_rate"]], corners)


def test_precision_recall_curves_hold_the_precision_at_each_recall(by_hand: pd.DataFrame) -> None:
    curves = precision_recall_curves(by_hand)
    assert list(curves.columns) == ["label", "recall", "precision"]
    assert list(curves["label"].unique()) == CLASSES
    # by falling probability: mel, nv, mel, nv, nv, (mel, nv), bkl
    all_points = [(1, 3 / 8), (1, 3 / 7), (2 / 3, 2 / 5), (2 / 3, 2 / 4), (2 / 3, 2 / 3), (1 / 3, 1 / 2), (1 / 3, 1)]
    points = curves[curves["label"] == "mel"][["recall", "precision"]].to_numpy().tolist()
    assert points[-1] == [0, 1]
    assert all(any(point == pytest.approx(one) for one in all_points) for point in points[:-1])
    for needed in ((1, 3 / 7), (2 / 3, 2 / 3), (1 / 3, 1)):
        assert any(point == pytest.approx(needed) for point in points)


def test_an_absent_class_has_no_curves(by_hand: pd.DataFrame) -> None:
    without = by_hand[by_hand["label"] != "bkl"]
    assert set(roc_curves(without)["label"]) == {"mel", "nv"}
    assert set(precision_recall_curves(without)["label"]) == {"mel", "nv"}


def test_the_picture_has_the_same_bytes_twice_and_other_bytes_for_other_numbers(
    by_hand: pd.DataFrame, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, predictions in zip(paths, (by_hand, by_hand, by_hand[1:]), strict=True):
        draw_confusion_matrix(predictions, "test images", path)
    first, again, other = (path.read_bytes() for path in paths)
    assert first == again != other
    image = Image.open(paths[0])
    assert image.format == "PNG"
    assert min(image.size) > 400


class TestSubgroups:
    """Balanced accuracy of the images that share something."""

    def test_ages_fall_into_bands_and_what_is_empty_is_unknown(self) -> None:
        ages = [0, 29.9, 30, 44, 45, 59, 60, 74, 75, 120, np.nan]
        manifest = pd.DataFrame(
            {"image_id": map(str, range(11)), "lesion_id": "x", "age": ages, "sex": ["", *["male"] * 10]}
        )
        table = clinical(manifest)
        assert list(table.columns) == ["image_id", "lesion_id", "sex", "age_band"]
        assert list(table["sex"]) == ["unknown", *["male"] * 10]
        bands = ["0-29", "0-29", "30-44", "30-44", "45-59", "45-59", "60-74", "60-74", "75+", "75+", "unknown"]
        assert list(table["age_band"]) == bands

    def test_a_table_without_clinical_columns_has_no_subgroups(self, many: pd.DataFrame) -> None:
        table = clinical(pd.DataFrame({"image_id": ["a"], "lesion_id": ["b"], "label": ["nv"]}))
        assert list(table.columns) == ["image_id", "lesion_id"]
        assert score_subgroups(many, seed=1).empty

    def test_each_group_has_its_own_balanced_accuracy_and_numbers(self, many: pd.DataFrame) -> None:
        sex = np.where(np.arange(300) % 3 == 0, "female", "male")
        table = score_subgroups(many.assign(sex=sex), seed=1)
        assert list(table["group"]) == ["female", "male"]
        for group, row in table.set_index("group").iterrows():
            images = many[sex == group]
            assert row["balanced_accuracy"] == pytest.approx(
                balanced_accuracy_score(images["label"], images["predicted"])
            )
            assert (row["images"], row["lesions"]) == (len(images), images["lesion_id"].nunique())
            assert 0 <= row["low"] < row["balanced_accuracy"] < row["high"] <= 1

    def test_small_groups_and_groups_without_a_class_are_noted(self, many: pd.DataFrame) -> None:
        face = many.index.isin(many.index[many["label"] == "nv"][:19])
        table = score_subgroups(many.assign(localization=np.where(face, "face", "back")), seed=1).set_index("group")
        assert table.loc["face", "note"] == "under 20 images; without akiec, bcc, bkl, mel"
        assert table.loc["back", "note"] == ""

    def test_a_group_of_one_lesion_has_no_interval(self, many: pd.DataFrame) -> None:
        table = score_subgroups(many[:1].assign(sex="male"), seed=1)
        assert table[["low", "high"]].isna().all(axis=None)


class TestStage:
    """The stage as a whole, on tables in files."""

    @pytest.fixture
    def project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: pd.DataFrame) -> Path:
        """Predictions for validation and test; with all views each image is taken for nv."""
        monkeypatch.chdir(tmp_path)
        both = pd.concat([many[:100].assign(part="validation"), many[100:]])
        write_table(both.drop(columns="lesion_id"), Path("data/predictions.csv"))
        write_table(both.drop(columns="lesion_id").assign(predicted="nv"), Path("data/predictions_tta.csv"))
        manifest = many[["image_id", "lesion_id"]].assign(sex=["male", "female", ""] * 100, age=np.arange(300) % 90.0)
        write_table(manifest, Path("data/manifest.csv"))
        return tmp_path

    def run_stage(self, project: Path, **changes: Any) -> dict[str, Any]:
        write_params(project, {"evaluate": {"tta": False, **changes}})
        stage.main()
        text = (project / "metrics/metrics.json").read_text(encoding="utf-8")
        return dict(json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON")))

    def test_each_part_is_scored(self, project: Path, many: pd.DataFrame) -> None:
        metrics = self.run_stage(project)
        assert list(metrics) == ["validation", "test"]
        table = read_table(Path("data/predictions.csv"))[:100].assign(lesion_id=many["lesion_id"])
        assert metrics["validation"] == score(table, PARAMS.evaluate.malignant, PARAMS.evaluate.seed)
        assert (metrics["validation"]["support"], metrics["test"]["support"]) == (100, 200)
        assert sorted(path.name for path in (project / "plots").iterdir()) == PLOTS

    def test_tta_decides_which_predictions_are_scored(self, project: Path) -> None:
        one_view, all_views = (self.run_stage(project, tta=tta)["test"] for tta in (False, True))
        assert one_view["per_class"]["mel"]["recall"] > 0.5
        assert all_views["per_class"]["mel"]["recall"] == 0

    def test_the_plots_show_the_test_part(self, project: Path, many: pd.DataFrame) -> None:
        self.run_stage(project)
        shown = read_table(Path("plots/confusion_matrix.csv"))
        assert shown.to_numpy().tolist() == many[100:][["label", "predicted"]].to_numpy().tolist()

    def test_the_temperature_is_fitted_on_validation_and_applied_to_test(self, project: Path) -> None:
        test = self.run_stage(project)["test"]
        table = read_table(Path("data/predictions.csv"))
        temperature = fit_temperature(table[:100])
        calibrated = point_metrics(apply_temperature(table[100:], temperature))
        assert test["temperature"] == pytest.approx(temperature)
        assert test["log_loss_calibrated"] == pytest.approx(calibrated["log_loss"])
        assert test["ece_calibrated"] == pytest.approx(calibrated["ece"])
        assert test["log_loss"] == pytest.approx(point_metrics(table[100:])["log_loss"])
        curves = pd.read_csv("plots/reliability.csv")
        assert list(curves.columns) == ["confidence", "accuracy", "images", "probabilities"]
        assert curves.groupby("probabilities", sort=False)["images"].sum().to_dict() == {
            "as predicted": 200,
            "calibrated": 200,
        }

    def test_without_calibration_nothing_else_changes(self, project: Path) -> None:
        calibrated = self.run_stage(project)["test"]
        plain = self.run_stage(project, calibrate=False)["test"]
        added = {"temperature", "log_loss_calibrated", "ece_calibrated"}
        assert {name: value for name, value in calibrated.items() if name not in added} == plain
        assert set(pd.read_csv("plots/reliability.csv")["probabilities"]) == {"as predicted"}

    def test_without_a_test_part_validation_is_shown_and_nothing_calibrated(
        self, project: Path, many: pd.DataFrame
    ) -> None:
        write_table(many[:100].drop(columns="lesion_id").assign(part="validation"), Path("data/predictions.csv"))
        metrics = self.run_stage(project)
        assert list(metrics) == ["validation"]
        assert "temperature" not in metrics["validation"]
        assert len(read_table(Path("plots/confusion_matrix.csv"))) == 100

    def test_subgroups_of_both_parts_are_in_a_table_and_small_ones_in_a_warning(
        self, project: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run_stage(project)
        table = pd.read_csv("metrics/subgroups.csv")
        numbers = ["images", "lesions", "balanced_accuracy", "low", "high"]
        assert list(table.columns) == ["part", "variable", "group", *numbers, "note"]
        images = table.pivot_table("images", "part", "variable", aggfunc="sum")
        assert images.loc["validation"].to_dict() == {"age_band": 100, "sex": 100}
        assert images.loc["test"].to_dict() == {"age_band": 200, "sex": 200}
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

    @pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
    def test_a_class_that_is_absent_from_a_part_leaves_null_and_a_warning(
        self, project: Path, many: pd.DataFrame, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = read_table(Path("data/predictions.csv"))
        write_table(table[(table["label"] != "akiec") | (table["part"] == "validation")], Path("data/predictions.csv"))
        metrics = self.run_stage(project)["test"]
        assert metrics["macro_auc"] is None
        assert metrics["per_class"]["akiec"]["auc"] is None
        assert "warning: test: no recall, AUC or macro AUC for akiec: no image is of it" in capsys.readouterr().err

    def test_without_predictions_the_stage_says_so(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write_params(tmp_path, {"evaluate": {"tta": True}})
        with pytest.raises(DataError, match=r"predictions_tta\.csv is missing"):
            stage.main()
        assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
