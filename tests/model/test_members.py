"""Several models: the mean of what they predict, and that what they share is done once."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dermoscopy.features.engines.choice import Engine
from dermoscopy.features.networks import build_backbone, write_backbone
from dermoscopy.model import classifier, members
from dermoscopy.model.classifier import Classifier
from dermoscopy.model.decision import adjust
from dermoscopy.model.members import LoadedBackbone, Member
from dermoscopy.runtime.errors import BackboneError, DataError
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import EngineName
from tests.support.classifier_project import AUGMENTATION, CLASSES, PRIOR, VIEWS, compute_features, write_classifier
from tests.support.clinical import make_encoder
from tests.support.photographs import write_photographs

FLATTER = [0.2, 0.3, 0.5]  # another prior


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_photographs(tmp_path_factory.mktemp("photographs"), 5)


@pytest.fixture(scope="module")
def features(backbones: dict[str, Path], files: list[Path]) -> NDArray[np.float32]:
    """Those of all views, (n, dim)."""
    features = compute_features(backbones["first"], files)
    return features.reshape(-1, features.shape[-1])


@pytest.fixture(scope="module")
def projects(
    tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path], features: NDArray[np.float32]
) -> dict[str, Path]:
    """Projects with different heads on one backbone, each with a copy of it."""
    folder = tmp_path_factory.mktemp("projects")
    heads: dict[str, dict[str, object]] = {
        "a": {},
        "b": {"seed": 1, "prior": FLATTER},
        "fewer views": {"seed": 2, "augmentation": AUGMENTATION.model_copy(update={"views": 1})},
        "other views": {"seed": 3, "augmentation": AUGMENTATION.model_copy(update={"seed": 9})},
        "age": {"seed": 4, "clinical": make_encoder(age=(50, 15))},
        "sex and place": {"seed": 5, "clinical": make_encoder(sex=["male"], localization=["back"])},
        "place": {"seed": 6, "clinical": make_encoder(localization=["back", "face"])},
    }
    for name, described in heads.items():
        write_classifier(folder / name, backbones["first"], features, **described)  # type: ignore[arg-type] # by name
    return {name: folder / name for name in heads}


def member(projects: dict[str, Path], name: str, prior_exponent: float = 0, tta: bool = True) -> Member:
    return Member(prior_exponent, name, projects[name], projects[name], tta)


def predict(
    members: Iterable[Member], files: list[Path], tta: bool | None = True, known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the table of all files, by the mean of some models."""
    return pd.concat([block.table for block in Classifier(list(members)).predict_files(files, tta, known)])


def probabilities(table: pd.DataFrame) -> NDArray[np.float32]:
    return table.filter(regex="^p_").to_numpy()


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize("times", [2, 3])
def test_the_mean_of_a_model_with_itself_is_its_own_table(
    projects: dict[str, Path], files: list[Path], tta: bool, times: int
) -> None:
    one = member(projects, "b", 0.7)
    pd.testing.assert_frame_equal(predict([one] * times, files, tta), predict([one], files, tta), check_exact=True)


def test_a_model_that_is_named_twice_weighs_twice_and_is_loaded_once(
    projects: dict[str, Path], files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = member(projects, "a", 0.3), member(projects, "b", 1)
    each = [probabilities(predict([one], files)) for one in (a, b)]
    loaded: list[int] = []
    load_members = classifier.load_members

    def load(members: list[Member]) -> list[LoadedBackbone]:
        loaded.append(len(members))
        return load_members(members)

    monkeypatch.setattr(classifier, "load_members", load)
    table = predict([a, b, a], files)
    assert loaded == [2]
    np.testing.assert_allclose(probabilities(table), (2 * each[0] + each[1]) / 3, rtol=0, atol=1e-7)
    deciding = 2 * adjust(each[0], PRIOR, 0.3) + adjust(each[1], FLATTER, 1)
    assert list(table["predicted"]) == list(np.array(CLASSES)[deciding.argmax(axis=1)])


def test_each_head_predicts_from_the_views_that_its_report_scores_unless_all_are_told(
    projects: dict[str, Path], files: list[Path]
) -> None:
    both = [member(projects, "a", tta=True), member(projects, "b", tta=False)]
    own = [probabilities(predict([one], files, one.tta)) for one in both]
    np.testing.assert_allclose(probabilities(predict(both, files, None)), np.mean(own, axis=0), rtol=0, atol=1e-7)
    assert Classifier(both).views(None) == {"a": len(VIEWS), "b": 1}
    for tta in (False, True):
        each = [probabilities(predict([one], files, tta)) for one in both]
        told = probabilities(predict(both, files, tta))
        np.testing.assert_allclose(told, np.mean(each, axis=0), rtol=0, atol=1e-7)
        assert np.abs(told - np.mean(own, axis=0)).max() > 1e-3
        assert Classifier(both).views(tta) == dict.fromkeys("ab", len(VIEWS) if tta else 1)


@pytest.mark.parametrize("tta", [False, True])
def test_the_mean_of_two_heads_on_one_backbone_is_the_mean_of_their_tables(
    projects: dict[str, Path], files: list[Path], tta: bool
) -> None:
    both = [member(projects, name) for name in ("a", "b")]
    table, (first, second) = predict(both, files, tta), [predict([one], files, tta) for one in both]
    np.testing.assert_allclose(
        probabilities(table), (probabilities(first) + probabilities(second)) / 2, rtol=0, atol=1e-7
    )
    assert np.abs(probabilities(first) - probabilities(second)).max() > 0.1
    assert list(table.columns) == list(first.columns)
    assert list(table["image"]) == list(map(str, files))
    assert (table.dtypes == first.dtypes).all()


def test_the_predicted_class_has_the_largest_mean_of_the_adjusted_probabilities(
    projects: dict[str, Path], files: list[Path]
) -> None:
    both = [member(projects, "a", 0.3), member(projects, "b", 1)]
    each = [probabilities(predict([one], files)) for one in both]
    deciding = adjust(each[0], PRIOR, 0.3) + adjust(each[1], FLATTER, 1)
    table = predict(both, files)
    assert list(table["predicted"]) == list(np.array(CLASSES)[deciding.argmax(axis=1)])
    # and it is not what one of the simpler ways would give
    for other in (probabilities(table), adjust(probabilities(table), PRIOR, 0.3), each[0], each[1]):
        assert list(table["predicted"]) != list(np.array(CLASSES)[other.argmax(axis=1)])


class Counted:
    """An engine that counts the images that it is given."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.at_once = engine.at_once
        self.images = 0

    def compute(self, images: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.float32]:
        return self._engine.compute(self._count(images), count)

    def _count(self, images: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        for image in images:
            self.images += 1
            yield image


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    """The engines that are loaded during the test, which count."""
    loaded: list[Counted] = []
    load_engine = members.load_engine

    def load(name: EngineName, folder: Path) -> Counted:
        loaded.append(Counted(load_engine(name, folder)))
        return loaded[-1]

    monkeypatch.setattr(members, "load_engine", load)
    return loaded


@pytest.mark.parametrize(
    ("names", "tta", "views"),
    [
        (["a"], True, len(VIEWS)),
        (["a", "b", "a", "age", "place"], True, len(VIEWS)),
        (["a", "b"], False, 1),
        (["a", "fewer views"], True, len(VIEWS)),
        (["a", "other views"], True, 2 * len(VIEWS) - 1),  # both have the image itself
        (["a", "other views"], False, 1),
    ],
)
def test_heads_that_share_a_backbone_load_it_once_and_run_it_once_for_each_view(
    projects: dict[str, Path], files: list[Path], engines: list[Counted], names: list[str], tta: bool, views: int
) -> None:
    predict([member(projects, name) for name in names], files, tta)
    assert [engine.images for engine in engines] == [len(files) * views]


@pytest.mark.parametrize("other", ["fewer views", "other views"])
def test_each_head_averages_the_views_that_it_was_trained_with(
    projects: dict[str, Path], files: list[Path], other: str
) -> None:
    both = [member(projects, name) for name in ("a", other)]
    each = [probabilities(predict([one], files)) for one in both]
    np.testing.assert_allclose(probabilities(predict(both, files)), np.mean(each, axis=0), rtol=0, atol=1e-7)
    assert Classifier(both).views(True) == {"a": len(VIEWS), other: 2 if other == "fewer views" else len(VIEWS)}


@pytest.fixture(scope="module")
def with_small(
    projects: dict[str, Path], files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The same projects, and one with a backbone for images of 32 pixels."""
    start_keras(seed=3)
    folder = tmp_path_factory.mktemp("small")
    (folder / "backbone").mkdir()
    write_backbone(build_backbone("MobileNet", None, 32), "MobileNet", folder / "backbone")
    features = compute_features(folder / "backbone", files)
    write_classifier(folder / "project", folder / "backbone", features.reshape(-1, features.shape[-1]), seed=7)
    return projects | {"small": folder / "project"}


@pytest.mark.slow
def test_backbones_of_different_sizes_each_see_every_view_of_an_image_that_is_decoded_once(
    with_small: dict[str, Path],
    files: list[Path],
    engines: list[Counted],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    three = [member(with_small, name) for name in ("small", "a", "b")]
    each = [probabilities(predict([one], files)) for one in three]
    assert np.abs(each[0] - each[1]).max() > 0.1
    (tmp_path / "bad.jpg").write_text("no image")
    engines.clear()
    decoded: list[Path] = []
    decode = classifier.decode

    def count(content: bytes, file: Path) -> NDArray[np.uint8]:
        decoded.append(file)
        return decode(content, file)

    monkeypatch.setattr(classifier, "decode", count)
    monkeypatch.setattr(classifier, "FILES_AT_A_TIME", 4)
    table = predict(three, [files[0], tmp_path / "bad.jpg", *files[1:]])
    np.testing.assert_allclose(probabilities(table), np.mean(each, axis=0), rtol=0, atol=1e-6)
    assert list(table["image"]) == list(map(str, files))
    assert [engine.images for engine in engines] == [len(files) * len(VIEWS)] * 2
    assert sorted(decoded) == sorted([*files, tmp_path / "bad.jpg"])


def test_where_no_image_can_be_read_the_table_is_empty(projects: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    (block,) = Classifier([member(projects, "a"), member(projects, "age")]).predict_files([tmp_path / "bad.jpg"], True)
    assert list(block.table.columns) == ["image", "predicted", *(f"p_{name}" for name in CLASSES)]
    assert block.table.empty
    assert len(block.unreadable) == 1


class TestClinical:
    """Heads that use different clinical variables."""

    KNOWN = pd.DataFrame(
        {
            "age": [20, np.nan, 80, 50, 40],
            "sex": ["male", "", "male", "female", "male"],
            "localization": ["back", "face", "face", "", "elbow"],
        }
    )

    @pytest.mark.slow
    def test_each_head_takes_the_variables_that_it_uses(self, projects: dict[str, Path], files: list[Path]) -> None:
        several = [member(projects, name) for name in ("a", "age", "sex and place", "place")]
        each = [probabilities(predict([one], files, known=self.KNOWN)) for one in several]
        table = predict(several, files, known=self.KNOWN)
        np.testing.assert_allclose(probabilities(table), np.mean(each, axis=0), rtol=0, atol=1e-7)
        unknown = [probabilities(predict([one], files)) for one in several]
        changed = [float(np.abs(known - none).max()) > 1e-3 for known, none in zip(each, unknown, strict=True)]
        assert changed == [False, True, True, True]

    @pytest.mark.parametrize(
        ("names", "lines"),
        [
            (
                ["a", "a"],
                ["age, sex and localization are not used: the head was trained without them (train.clinical)"],
            ),
            (
                ["age", "place"],
                [
                    "age: unknown for some of the 5 images: age of 1",
                    "age: sex and localization are not used: the head was trained without them (train.clinical)",
                    "place: unknown for some of the 5 images: localization of 1",
                    "place: localization elbow counts as unknown, for the head was not trained with it; "
                    "it knows back, face",
                    "place: age and sex are not used: the head was trained without them (train.clinical)",
                ],
            ),
            (
                ["a", "sex and place", "place"],
                [
                    "a: age, sex and localization are not used: the head was trained without them (train.clinical)",
                    "sex and place: unknown for some of the 5 images: sex of 1, localization of 1",
                    "sex and place: sex female counts as unknown, for the head was not trained with it; it knows male",
                    "sex and place: localization elbow, face counts as unknown, for the head was not trained with it; "
                    "it knows back",
                    "sex and place: age is not used: the head was trained without it (train.clinical)",
                    "place: unknown for some of the 5 images: localization of 1",
                    "place: localization elbow counts as unknown, for the head was not trained with it; "
                    "it knows back, face",
                    "place: age and sex are not used: the head was trained without them (train.clinical)",
                ],
            ),
            (
                ["place", "a", "a"],
                [
                    "place: unknown for some of the 5 images: localization of 1",
                    "place: localization elbow counts as unknown, for the head was not trained with it; "
                    "it knows back, face",
                    "place: age and sex are not used: the head was trained without them (train.clinical)",
                    "a: age, sex and localization are not used: the head was trained without them (train.clinical)",
                ],
            ),
            (
                ["place", "place"],
                [
                    "unknown for some of the 5 images: localization of 1",
                    "localization elbow counts as unknown, for the head was not trained with it; it knows back, face",
                    "age and sex are not used: the head was trained without them (train.clinical)",
                ],
            ),
        ],
    )
    def test_each_remark_is_made_once_and_names_the_heads_that_it_is_true_of_unless_all(
        self, projects: dict[str, Path], names: list[str], lines: list[str]
    ) -> None:
        assert Classifier([member(projects, name) for name in names]).remarks(self.KNOWN) == lines


class TestRefusals:
    """Models that do not belong together are named."""

    def test_other_classes(
        self, projects: dict[str, Path], backbones: dict[str, Path], features: NDArray[np.float32], tmp_path: Path
    ) -> None:
        write_classifier(tmp_path, backbones["first"], features, classes=["bcc", "mel", "nv"])
        others = [member(projects, "a"), member(projects, "b"), member({"other": tmp_path}, "other")]
        with pytest.raises(
            DataError, match=r"^a and other know different classes \(only a has bkl; only other has bcc\): name models"
        ):
            Classifier(others)

    def test_more_classes(
        self, projects: dict[str, Path], backbones: dict[str, Path], features: NDArray[np.float32], tmp_path: Path
    ) -> None:
        classes = {"classes": [*CLASSES, "scc", "vasc"], "prior": [0.2] * 5, "class_weights": [1] * 5}
        write_classifier(tmp_path, backbones["first"], features, **classes)  # type: ignore[arg-type] # by name
        with pytest.raises(DataError, match=r"^a and more know different classes \(only more has scc, vasc\): "):
            Classifier([member(projects, "a"), member({"more": tmp_path}, "more")])

    def test_a_head_of_another_backbone(self, projects: dict[str, Path], tmp_path: Path) -> None:
        shutil.copytree(projects["a"], tmp_path / "stale")
        info = tmp_path / "stale/models/head.json"
        info.write_text(info.read_text().replace('"backbone":"', '"backbone":"0'))
        with pytest.raises(DataError, match=r"^stale: models/head.npz was trained on another backbone than the one"):
            Classifier([member(projects, "a"), member({"stale": tmp_path / "stale"}, "stale")])

    @pytest.mark.parametrize(
        ("damaged", "message"),
        [
            ("head.json", "^hurt: no trained head can be read from models/head.json "),
            ("head.npz", "^hurt: no trained head can be read from models/head.npz "),
            ("backbone/backbone.bin", "^hurt: models/backbone/backbone.bin is damaged or missing: "),
            ("backbone/backbone.json", "^hurt: models/backbone holds no backbone "),
        ],
    )
    def test_a_damaged_file_is_named_with_its_model_and_without_its_folder(
        self, projects: dict[str, Path], tmp_path: Path, damaged: str, message: str
    ) -> None:
        shutil.copytree(projects["a"], tmp_path / "hurt")
        (tmp_path / "hurt/models" / damaged).write_bytes(b"damaged")
        with pytest.raises((DataError, BackboneError), match=message):
            Classifier([member({"hurt": tmp_path / "hurt"}, "hurt"), member(projects, "b")])
