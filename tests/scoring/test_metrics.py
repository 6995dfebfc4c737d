"""Metrics with intervals: where there are none and why, and metrics.json as it is written and read."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from dermoscopy.runtime.errors import DataError
from dermoscopy.scoring.bootstrap import bootstrap, interval
from dermoscopy.scoring.calibration import Calibration, ece_floor, expected_calibration_error
from dermoscopy.scoring.definitions import classification_metrics
from dermoscopy.scoring.evaluation import Calibrated, add_calibrated
from dermoscopy.scoring.intervals import lesions_of_classes, mean_interval, share_interval
from dermoscopy.scoring.metrics import (
    HEADLINES,
    OF_A_CLASS,
    ClassMetrics,
    Metrics,
    Screening,
    enough_lesions,
    point_metrics,
    read_metrics,
    score,
    write_metrics,
)
from tests.support.prediction_tables import drawn_images, eight_images, make_predictions

MALIGNANT = ["akiec", "bcc", "mel"]


@pytest.fixture
def by_hand() -> pd.DataFrame:
    return eight_images()


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    return drawn_images()


def screening_of(metrics: Metrics) -> Screening:
    """Return the screening metrics, which must be there."""
    assert metrics.screening is not None
    return metrics.screening


def intervals_of(metrics: Metrics) -> Iterator[tuple[str, float | None, tuple[float, float] | None]]:
    """Yield name, value and interval of everything that has a field for an interval."""
    parts: list[Metrics | ClassMetrics | Screening] = [metrics, *metrics.per_class.values(), screening_of(metrics)]
    for part in parts:
        for name in type(part).model_fields:
            if name.endswith("_ci"):
                yield name, getattr(part, name.removesuffix("_ci")), getattr(part, name)


def assert_is_json(metrics: Metrics) -> None:
    assert json.dumps(metrics.model_dump(mode="json"), allow_nan=False)


def test_each_metric_stands_under_its_name(many: pd.DataFrame) -> None:
    defined = classification_metrics(many)(np.ones((1, len(many))))
    metrics = point_metrics(many)
    for name in (*HEADLINES, "weighted_f1", "log_loss"):
        assert getattr(metrics, name) == defined[name][0], name
    for name in ("precision", *OF_A_CLASS):
        found = [getattr(values, name) for values in metrics.per_class.values()]
        assert found == defined[name][0].tolist(), name
    assert list(metrics.per_class) == ["akiec", "bcc", "bkl", "mel", "nv"]
    assert metrics.ece == expected_calibration_error(many)
    assert metrics.support == 300
    assert {name: values.support for name, values in metrics.per_class.items()} == many[
        "label"
    ].value_counts().to_dict()


class TestEnoughLesions:
    """A metric can be resampled where lesions can show how it varies."""

    def enough(self, **lesions: int) -> dict[str, dict[str, bool] | bool]:
        """Return what is enough for images of so many lesions of each class, two images of each lesion."""
        labels = [name for name, count in lesions.items() for _ in range(2 * count)]
        ids = [f"{name} {number}" for name, count in lesions.items() for number in range(count) for _ in range(2)]
        table = make_predictions(labels, np.eye(3)[[0] * len(labels)], ["bkl", "mel", "nv"], lesions=ids)
        found = enough_lesions(table)
        assert set(found) == {*HEADLINES, *OF_A_CLASS}
        classes = [dict(zip(["bkl", "mel", "nv"], found[name].tolist(), strict=True)) for name in OF_A_CLASS]
        return {name: bool(found[name]) for name in HEADLINES} | dict(zip(OF_A_CLASS, classes, strict=True))

    @pytest.mark.parametrize(("lesions", "expected"), [(1, False), (2, True)])
    def test_metrics_of_all_images_need_two_lesions(self, lesions: int, expected: bool) -> None:
        enough = self.enough(nv=lesions)
        assert [enough[name] for name in HEADLINES] == [expected] * 4

    def test_two_lesions_of_different_classes_are_enough_for_metrics_of_all_images(self) -> None:
        enough = self.enough(nv=1, mel=1)
        assert [enough[name] for name in HEADLINES] == [True] * 4

    @pytest.mark.parametrize("name", ["recall", "f1"])
    def test_recall_and_f1_need_two_lesions_of_the_class(self, name: str) -> None:
        assert self.enough(bkl=2, mel=1)[name] == {"bkl": True, "mel": False, "nv": False}

    def test_specificity_needs_two_lesions_of_other_classes(self) -> None:
        assert self.enough(mel=1, nv=3)["specificity"] == {"bkl": True, "mel": True, "nv": False}
        assert self.enough(bkl=1, mel=1)["specificity"] == {"bkl": False, "mel": False, "nv": True}

    def test_the_auc_needs_two_lesions_of_the_class_and_two_of_others(self) -> None:
        assert self.enough(mel=1, nv=3)["auc"] == {"bkl": False, "mel": False, "nv": False}
        assert self.enough(mel=2, nv=3)["auc"] == {"bkl": False, "mel": True, "nv": True}


class TestScore:
    """Metrics with intervals and the reasons for what is missing."""

    def test_every_value_is_inside_its_interval(self, many: pd.DataFrame) -> None:
        metrics = score(many, MALIGNANT, seed=1)
        intervals = list(intervals_of(metrics))
        assert len(intervals) == 4 + 5 * 4 + 5
        for name, value, limits in intervals:
            assert limits is not None, name
            assert value is not None, name
            assert 0 <= limits[0] <= value <= limits[1] <= 1, name
        assert metrics.notes == []

    def test_intervals_of_what_is_no_share_are_those_of_the_bootstrap_over_lesions(self, many: pd.DataFrame) -> None:
        metrics = score(many, MALIGNANT, seed=1)
        draws = bootstrap(classification_metrics(many), many["group_id"], 1)
        assert metrics.macro_f1_ci == interval(draws["macro_f1"])
        assert metrics.per_class["bkl"].auc_ci == interval(draws["auc"][:, 2])

    def test_recall_specificity_and_balanced_accuracy_have_intervals_by_formula(self, many: pd.DataFrame) -> None:
        metrics = score(many, MALIGNANT, seed=1)
        of_class, of_others = lesions_of_classes(many)
        recalls = []
        for label, ours, others in zip(metrics.per_class, of_class, of_others, strict=True):
            values = metrics.per_class[label]
            assert values.recall is not None
            assert values.specificity is not None
            assert values.recall_ci == share_interval(values.recall, ours)
            assert values.specificity_ci == share_interval(values.specificity, others)
            recalls.append(values.recall)
        assert metrics.balanced_accuracy_ci == mean_interval(np.array(recalls), of_class)

    def test_the_floor_of_the_calibration_error_stands_beside_it(self, many: pd.DataFrame) -> None:
        assert score(many, MALIGNANT, seed=1).ece_floor == ece_floor(many, 1)
        assert "ece_floor" not in point_metrics(many).model_dump(exclude_unset=True)

    def test_points_are_those_without_intervals(self, many: pd.DataFrame) -> None:
        points, scored = point_metrics(many).model_dump(exclude_unset=True), score(many, MALIGNANT, seed=1).model_dump()
        per_class = points.pop("per_class")
        assert {name: scored[name] for name in points} == points
        for name, values in per_class.items():
            assert {key: scored["per_class"][name][key] for key in values} == values

    def test_the_order_of_the_images_does_not_matter(self, many: pd.DataFrame) -> None:
        shuffled = many.sample(frac=1, random_state=1)
        ours, again = (score(table, MALIGNANT, seed=1) for table in (many, shuffled))
        for first, other in zip(intervals_of(ours), intervals_of(again), strict=True):
            assert other[1] == pytest.approx(first[1], rel=1e-9), first[0]
            assert other[2] == pytest.approx(first[2], rel=1e-9), first[0]
        assert (again.log_loss, again.ece) == pytest.approx((ours.log_loss, ours.ece), rel=1e-9)

    def test_the_seed_decides_the_intervals_and_nothing_else(self, many: pd.DataFrame) -> None:
        first, again, other = (score(many, MALIGNANT, seed) for seed in (1, 1, 2))
        assert first == again
        assert first.accuracy == other.accuracy
        assert first.accuracy_ci != other.accuracy_ci

    def test_copies_of_an_image_within_a_lesion_narrow_no_interval(self, many: pd.DataFrame) -> None:
        alone = many.assign(group_id=many["image_id"])
        in_fives = pd.concat([alone] * 5)
        # five copies of an image are worth no more than one
        for first, other in zip(
            *(intervals_of(score(table, MALIGNANT, 1)) for table in (alone, in_fives)), strict=True
        ):
            assert other[2] == pytest.approx(first[2], rel=1e-9), first[0]

    def test_the_suspicion_is_the_probability_of_the_malignant_classes_together(self, many: pd.DataFrame) -> None:
        screening = screening_of(score(many, ["mel", "bcc"], seed=1))
        malignant = many["label"].isin(["mel", "bcc"])
        assert screening.auc == pytest.approx(roc_auc_score(malignant, many["p_mel"] + many["p_bcc"]), abs=1e-6)
        assert (screening.malignant, screening.benign) == (malignant.sum(), (~malignant).sum())

    def test_an_absent_class_is_none_with_a_reason(self, by_hand: pd.DataFrame) -> None:
        metrics = score(by_hand[by_hand["label"] != "bkl"], ["mel"], seed=1)
        absent = metrics.per_class["bkl"]
        assert [absent.recall, absent.f1, absent.auc, absent.recall_ci, absent.f1_ci, absent.auc_ci] == [None] * 6
        assert (absent.support, absent.precision) == (0, 0)
        assert absent.specificity is not None
        assert metrics.macro_auc is metrics.macro_auc_ci is None
        assert metrics.balanced_accuracy_ci is not None
        assert [note for note in metrics.notes if note.startswith("no recall, F1, AUC or macro AUC for bkl: ")]
        assert_is_json(metrics)

    def test_a_class_of_one_lesion_has_a_wide_interval_of_its_recall_and_no_other_with_a_reason(
        self, by_hand: pd.DataFrame
    ) -> None:
        twice = pd.concat([by_hand, by_hand[by_hand["label"] == "bkl"]])  # two images, one lesion
        for table in (by_hand, twice):
            metrics = score(table, ["mel"], seed=1)
            rare = metrics.per_class["bkl"]
            assert (rare.recall, rare.f1_ci, rare.auc_ci) == (1, None, None)
            assert rare.recall_ci == pytest.approx((0.2065, 1), abs=1e-4)
            assert rare.specificity_ci is not None
            assert metrics.per_class["mel"].f1_ci is not None
            assert [note for note in metrics.notes if note.startswith("no interval for F1 and AUC of bkl: one lesion")]

    def test_a_table_of_a_single_class_is_scored(self, by_hand: pd.DataFrame) -> None:
        metrics = score(by_hand[by_hand["label"] == "mel"], ["mel"], seed=1)
        assert metrics.accuracy == pytest.approx(2 / 3)
        assert metrics.per_class["mel"].specificity is None
        assert metrics.per_class["mel"].specificity_ci is None
        assert metrics.macro_auc is metrics.screening is None
        assert "no specificity or AUC for mel: all images are of it" in metrics.notes
        assert "no screening metrics: all images or none are malignant" in metrics.notes
        assert_is_json(metrics)

    def test_a_single_image_is_scored_without_intervals_but_by_formula(self, by_hand: pd.DataFrame) -> None:
        metrics = score(by_hand[:1], ["mel"], seed=1)
        assert metrics.accuracy == 1
        assert metrics.accuracy_ci is metrics.macro_f1_ci is None
        assert metrics.balanced_accuracy_ci == pytest.approx((0.025, 1))
        assert_is_json(metrics)

    def test_one_lesion_of_other_classes_gives_no_interval_with_a_reason(self) -> None:
        table = make_predictions(
            ["nv", "nv", "nv", "mel"], [[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]], ["mel", "nv"]
        )
        metrics = score(table, ["mel"], seed=1)
        assert metrics.per_class["nv"].specificity == 1
        assert metrics.per_class["nv"].specificity_ci is not None
        assert metrics.per_class["nv"].auc_ci is None
        assert screening_of(metrics).auc_ci is None
        assert "no interval for AUC of nv: one lesion or patient of other classes only" in metrics.notes
        why = "one malignant or one benign lesion or patient only"
        assert f"no interval for the screening metrics: {why}" in metrics.notes

    @pytest.mark.parametrize("predicted", ["bcc", "nv"])
    def test_a_recall_of_0_or_1_has_an_interval_with_a_width(self, many: pd.DataFrame, predicted: str) -> None:
        changed = many.assign(predicted=many["predicted"].mask(many["label"] == "bcc", predicted))
        values = score(changed, MALIGNANT, seed=1).per_class["bcc"]
        low, high = values.recall_ci or (0, 0)
        assert (values.recall, high - low > 0.1) == (float(predicted == "bcc"), True)

    def test_no_interval_without_width_is_published(self) -> None:
        labels = ["bcc", "mel", "nv"] * 4
        table = make_predictions(labels, np.eye(3)[[0, 1, 2] * 4], ["bcc", "mel", "nv"])
        metrics = score(table, ["bcc", "mel"], seed=1)
        for name, value, limits in intervals_of(metrics):
            assert value == 1
            assert (limits is None) == (name not in ("recall_ci", "specificity_ci", "balanced_accuracy_ci")), name
        (note,) = metrics.notes
        assert note.startswith("no interval for accuracy, macro F1, macro AUC, F1 of bcc, AUC of bcc, and 9 more: ")
        assert note.endswith(": the same in all bootstrap samples of these images, which does not show how it varies")

    def test_the_classes_that_count_as_malignant_stand_beside_the_metrics(self, many: pd.DataFrame) -> None:
        assert screening_of(score(many, ["mel", "bcc"], seed=1)).classes == ["bcc", "mel"]

    def test_a_malignant_class_that_the_model_does_not_know_is_named(self, many: pd.DataFrame) -> None:
        metrics = score(many, ["mel", "scc"], seed=1)
        assert screening_of(metrics).malignant == (many["label"] == "mel").sum()
        assert metrics.notes == ["evaluate.malignant names scc, which the model does not know"]

    def test_without_malignant_classes_there_is_no_screening(self, many: pd.DataFrame) -> None:
        metrics = score(many, [], seed=1)
        assert metrics.screening is None
        assert metrics.notes == ["no screening metrics: no class is malignant"]

    def test_the_table_of_diagnoses_decides_where_no_class_is_named(self, many: pd.DataFrame) -> None:
        assert score(many, None, seed=1) == score(many, MALIGNANT, seed=1)

    def test_squamous_cell_carcinoma_and_actinic_keratosis_count_as_malignant(self, many: pd.DataFrame) -> None:
        names = {"akiec": "ak", "bcc": "scc"}
        table = many.rename(columns={f"p_{old}": f"p_{new}" for old, new in names.items()})
        table = table.replace({"label": names, "predicted": names})
        screening = screening_of(score(table, None, seed=1))
        assert screening.classes == ["ak", "scc", "mel"]
        assert screening.auc == screening_of(score(many, MALIGNANT, seed=1)).auc

    def test_a_class_of_which_nobody_says_whether_it_is_malignant_is_asked_for(self, many: pd.DataFrame) -> None:
        names = {"bkl": "1", "nv": "other"}
        table = many.rename(columns={f"p_{old}": f"p_{new}" for old, new in names.items()})
        table = table.replace({"label": names, "predicted": names})
        metrics = score(table, None, seed=1)
        assert metrics.screening is None
        assert metrics.notes == [
            "no screening metrics: nobody says whether 1, other are malignant: set evaluate.malignant to the list of "
            "all classes that are"
        ]
        assert screening_of(score(table, ["1"], seed=1)).classes == ["1"]


class TestFile:
    """metrics/metrics.json, or another file of its form."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "metrics.json"

    def test_what_is_read_is_what_was_written(self, path: Path, many: pd.DataFrame) -> None:
        test = score(many[100:], MALIGNANT, seed=1)
        written = {
            "validation": score(many[:100], [], seed=1),
            "test": add_calibrated(test, Calibrated(many[100:], Calibration(1.25, dict.fromkeys(test.per_class, 0.0)))),
            "external": point_metrics(many),
        }
        write_metrics(written, path)
        read = read_metrics(path)
        assert read == written
        assert list(read) == list(written)
        # what was never computed is not the same as what cannot be computed
        unset = {part: values.model_dump(exclude_unset=True) for part, values in read.items()}
        assert unset == {part: values.model_dump(exclude_unset=True) for part, values in written.items()}
        assert "temperature" not in json.loads(path.read_text())["validation"]
        assert json.loads(path.read_text())["validation"]["screening"] is None

    def test_a_file_from_before_the_floor_of_the_calibration_error_can_be_read(
        self, path: Path, many: pd.DataFrame
    ) -> None:
        write_metrics({"test": score(many, MALIGNANT, seed=1)}, path)
        content = json.loads(path.read_text())
        del content["test"]["ece_floor"]
        path.write_text(json.dumps(content))
        assert read_metrics(path)["test"].ece_floor is None

    def test_the_same_metrics_are_the_same_bytes(self, path: Path, many: pd.DataFrame) -> None:
        write_metrics({"test": score(many, MALIGNANT, seed=1)}, path)
        first = path.read_bytes()
        write_metrics(read_metrics(path), path)
        assert path.read_bytes() == first

    def test_a_file_that_is_missing_is_named(self, path: Path) -> None:
        with pytest.raises(DataError, match=r"metrics\.json is missing: run dvc repro, which makes it$"):
            read_metrics(path)

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"", "Invalid JSON"),
            (b"{", "Invalid JSON"),
            (b"\xff\xfe", "Invalid JSON"),
            (b"[]", "Input should be an object"),
            (b"null", "Input should be an object"),
            (b'{"test": 5}', "test: Input should be an object"),
            (b'{"test": {"accuracy": 1}}', r"test\.balanced_accuracy: Field required"),
        ],
    )
    def test_a_file_that_is_no_such_file_is_one_line_that_says_where_and_why(
        self, path: Path, content: bytes, why: str
    ) -> None:
        path.write_bytes(content)
        self.assert_refused(path, why)

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"accuracy": "high"}, r"test\.accuracy: .*valid number"),
            ({"accuracy": None}, r"test\.accuracy: .*valid number"),
            ({"accuracy_ci": [0.5]}, r"test\.accuracy_ci.*: Field required"),
            ({"per_class": {"mel": {}}}, r"test\.per_class\.mel\.precision: Field required"),
            ({"kappa": 0.5}, r"test\.kappa: Extra inputs are not permitted"),
        ],
    )
    def test_a_wrong_value_is_named(self, path: Path, many: pd.DataFrame, changes: dict[str, object], why: str) -> None:
        write_metrics({"test": point_metrics(many)}, path)
        content = json.loads(path.read_text())
        content["test"] |= changes
        path.write_text(json.dumps(content))
        self.assert_refused(path, why)

    def assert_refused(self, path: Path, why: str) -> None:
        with pytest.raises(
            DataError, match=rf"^{path} cannot be read \({why}.*\): delete it and run dvc repro$"
        ) as error:
            read_metrics(path)
        assert "\n" not in str(error.value)
