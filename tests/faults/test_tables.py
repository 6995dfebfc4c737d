"""Bad and unusual tables and descriptions: each is read as it should be, or refused in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dermoscopy.data.label_tables import read_labels
from dermoscopy.data.sources import sample
from dermoscopy.data.tables import read_table, write_table
from dermoscopy.features.backbones import BackboneInfo, read_backbone_info
from dermoscopy.features.store import FeatureReader, view_file
from dermoscopy.model.head import Head, load_head
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.errors import PipelineError, one_line
from dermoscopy.runtime.params import Columns
from dermoscopy.runtime.paths import INSPECTIONS
from dermoscopy.runtime.workspace import PROJECT
from stages import manifest, split
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS, write_params
from tests.support.photographs import write_photographs

BACKBONE = BackboneInfo(
    name="MobileNetV2", image_size=64, dim=1280, fingerprint="0" * 64, files={"backbone.bin": "0" * 64}
)
HEAD = HeadInfo(
    classes=["mel", "nv"],
    prior=[0.5, 0.5],
    class_weights=[1, 1],
    backbone="0" * 64,
    augmentation=PARAMS.augmentation,
)

# The same examples in each run. What is in tmp_path may stay from one example to the next: each writes its file anew.
fuzz = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=500,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def attempt(function: Callable[[], Any]) -> Any:
    """Return what a reader returns, or None where it ends with an error that is one short line for the user."""
    try:
        return function()
    except PipelineError as error:
        line = one_line(str(error))
        assert line.isprintable()
        assert len(line) <= 2000
        return None


# Tables

ODD_VALUES = st.sampled_from(
    [
        *("", " ", '"', "'", '"""', '"a""b"', '"a,b"', '"a\nb"', '"a\rb"', "a\0b", "\x1a", "\x1b[2J", "\x85", "\u2028"),
        *("NaN", "inf", "-inf", "1e400", "-1", "0x1F", "1_0", "٣", "1+2j", "True", "NA", "x" * 140_000, "\ufeff"),
        *("a/b", "..", ".jpg", "ISIC_1.JPG", "nv,mel", "=1+1", "e\u0301", "é"),
    ]
) | st.text(max_size=6)
USUAL_VALUES = {
    "image_id": st.text("abc_1. ", min_size=1, max_size=6),
    "image": st.text("abc_1. ", min_size=1, max_size=6),
    "dx": st.sampled_from(["nv", "mel", " NV "]),
    "age": st.sampled_from(["45", "80.0", "", "unknown", "NaN"]),
    "NV": st.just("1"),
    "MEL": st.just("0"),
    "p_nv": st.sampled_from(["0.5", "1e-09"]),
    "width": st.just("600"),
}
HEADERS = st.sampled_from(
    [
        ["image_id", "dx"],
        ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"],
        ["image", "NV", "MEL"],
        ["image_id", "path", "label", "lesion_id", "width", "age"],
        ["image_id", "part", "label", "predicted", "p_nv"],
    ]
)
NAMES = st.sampled_from(["image_id", "dx", "DX", "label", "image", "NV", "nv", "age", "p_nv", "", " ", "Unnamed: 0"])


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table that a person or a spreadsheet program might have spoilt in up to three places."""
    header = list(draw(HEADERS))
    rows = [
        [draw(USUAL_VALUES.get(name, st.text(max_size=4))) for name in header] for _ in range(draw(st.integers(0, 3)))
    ]
    for _ in range(draw(st.integers(0, 3))):
        row = draw(st.sampled_from([header, *rows]))
        place = draw(st.integers(0, len(row)))
        row[place : place + draw(st.integers(0, 1))] = draw(
            st.lists(NAMES if row is header else ODD_VALUES, max_size=2) | st.just(row[:1])
        )
    separator = draw(st.sampled_from([",", ";", "\t", "|", ", "]))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = end.join(map(separator.join, [header, *rows])) + draw(st.sampled_from(["", end, "\0"]))
    mark = draw(st.sampled_from(["", "", "\ufeff", "\n", "#"]))
    return (mark + text).encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-16", "cp1252"])), "replace")


CONTENTS = tables() | st.binary(max_size=100)


@fuzz
@given(CONTENTS)
def test_any_bytes_are_a_valid_label_table_or_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    labels = attempt(lambda: read_labels([path], Columns(), path))
    if labels is not None:  # and what comes of it is read again as it was written
        write_table(labels, tmp_path / "manifest.csv")
        pd.testing.assert_frame_equal(read_table(tmp_path / "manifest.csv"), labels, check_dtype=False)


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # pandas, of an infinite width
@fuzz
@given(CONTENTS)
def test_any_bytes_are_a_table_of_the_pipeline_or_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    table = attempt(lambda: read_table(tmp_path / "table.csv", "image_id", "label"))
    if table is not None:
        assert {"image_id", "label"} <= set(table.columns)
        assert table.drop(columns="age", errors="ignore").select_dtypes("str").notna().all(axis=None)


def test_a_table_without_a_column_that_is_needed_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("image_id,Part\nISIC_1,train\n")
    with pytest.raises(PipelineError, match=r"split\.csv has no column part: delete it and run dvc repro"):
        read_table(tmp_path / "split.csv", "image_id", "part")


def test_a_table_whose_rows_are_all_too_long_is_refused_and_not_shifted(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text("image_id,part\nISIC_1,train,x\nISIC_2,test,y\n")
    with pytest.raises(PipelineError, match="more values than its header has columns"):
        read_table(tmp_path / "split.csv", "image_id", "part")


def test_a_folder_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="Is a directory"):
        read_table(tmp_path)


# JSON

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def descriptions(good: str) -> st.SearchStrategy[bytes]:
    """Return JSON that differs from `good` in one value or key, is cut short or nested deeply, or any bytes."""
    content = json.loads(good)

    @st.composite
    def changed(draw: st.DrawFn) -> str:
        copy = json.loads(good)
        target = draw(st.sampled_from([copy, *(value for value in copy.values() if isinstance(value, dict))]))
        if draw(st.booleans()):
            target[draw(st.sampled_from(list(target)))] = draw(JSON)
        else:
            target.pop(draw(st.sampled_from(list(target))))
            target.update(draw(st.dictionaries(st.text(max_size=5), JSON, max_size=1)))
        return json.dumps(copy)

    cut = st.integers(0, len(good)).map(lambda length: good[:length])
    deep = st.sampled_from(['{"name":' * 100_000, "[" * 100_000, "1" * 5000, json.dumps([content] * 3)])
    return st.binary(max_size=50) | (changed() | cut | deep).map(lambda text: text.encode("utf-8", "surrogatepass"))


@pytest.fixture
def feature_folder(tmp_path: Path) -> Path:
    """data/features of three images with two views."""
    write_feature_folder(tmp_path / "features", np.arange(24, dtype=np.float32).reshape(3, 2, 4))
    return tmp_path / "features"


def read_all(folder: Path) -> Any:
    """Return all features of a folder by way of its index."""
    reader = FeatureReader(folder)
    rows = reader.rows(reader.image_ids)
    return np.stack([reader.view(view, rows) for view in range(reader.info.views)], axis=1)


@pytest.mark.slow
def test_any_features_json_gives_the_features_or_one_line(feature_folder: Path) -> None:
    path = feature_folder / "features.json"

    @fuzz
    @given(descriptions(path.read_text()))
    def load(content: bytes) -> None:
        path.write_bytes(content)
        features = attempt(lambda: read_all(feature_folder))
        assert features is None or features.shape[::2] == (3, 4)

    load()


@pytest.mark.slow
@fuzz
@given(
    CONTENTS
    | st.lists(st.sampled_from(["image_0", "image_1", "image_2", ""]), max_size=4).map(
        lambda ids: "\n".join(["image_id,sha256", *(f"{image_id},0" for image_id in ids)]).encode()
    )
)
def test_any_index_gives_the_features_or_one_line(feature_folder: Path, content: bytes) -> None:
    (feature_folder / "index.csv").write_bytes(content)
    features = attempt(lambda: read_all(feature_folder))
    assert features is None or features.shape == (3, 2, 4)


@pytest.mark.slow
def test_any_view_file_gives_the_features_or_one_line(feature_folder: Path) -> None:
    path = view_file(feature_folder, 1)
    good = path.read_bytes()
    places = st.integers(0, len(good) - 1)

    @fuzz
    @given(
        st.lists(st.tuples(places | st.integers(0, 70), st.integers(0, 255)), max_size=3),
        st.sampled_from([len(good), len(good) - 20, 128, 12, 1, 0]),
        st.sampled_from([b"", b"PK\x03\x04"]),  # numpy.load would take the second for an .npz file
    )
    def load(changes: list[tuple[int, int]], length: int, beginning: bytes) -> None:
        spoilt = bytearray(good)
        for place, value in changes:
            spoilt[place] = value
        spoilt[: len(beginning)] = beginning
        path.write_bytes(spoilt[:length])
        features = attempt(lambda: read_all(feature_folder))
        assert features is None or (features.shape == (3, 2, 4) and features.dtype == np.float32)

    load()


@fuzz
@given(descriptions(BACKBONE.model_dump_json()))
def test_any_backbone_json_is_a_description_or_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "backbone.json").write_bytes(content)
    assert isinstance(attempt(lambda: read_backbone_info(tmp_path)), BackboneInfo | None)


@pytest.mark.slow
def test_any_head_json_is_a_description_or_one_line(tmp_path: Path) -> None:
    ones = np.ones(4, np.float32)
    Head(ones, ones, np.ones((4, 2), np.float32), np.ones(2, np.float32)).save(tmp_path / "head.npz")

    @fuzz
    @given(descriptions(HEAD.model_dump_json()))
    def load(content: bytes) -> None:
        (tmp_path / "head.json").write_bytes(content)
        loaded = attempt(lambda: load_head(tmp_path / "head.npz", tmp_path / "head.json"))
        assert loaded is None or isinstance(loaded[1], HeadInfo)

    load()


# The manifest stage


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with eight drawn images, named ISIC_1 to ISIC_8, and no label table."""
    for number, path in enumerate(write_photographs(tmp_path / "data/raw/images", 8), start=1):
        path.rename(path.with_name(f"ISIC_{number}.jpg"))
    return tmp_path


def run(folder: Path, stage: ModuleType = manifest, on_bad_image: str = "fail") -> None:
    """Run a stage in a project, as a command does."""
    write_params(folder, {"data": {"on_bad_image": on_bad_image}})
    with chdir(folder):
        run_stage(stage.main)


def fails(folder: Path, stage: ModuleType = manifest) -> str:
    """Return the one line that a stage ends with."""
    with pytest.raises(SystemExit) as end:
        run(folder, stage)
    line = str(end.value.code)
    assert line.startswith("error: ")
    assert line.isprintable()
    assert len(line) <= len("error: ") + 2000
    return line


def results(folder: Path) -> list[str]:
    """Return the names of the files that stages have written into a project."""
    files = [path for path in folder.rglob("*") if path.is_file() and folder / "data/raw" not in path.parents]
    return sorted(path.name for path in files if path.name not in ("params.yaml", INSPECTIONS.name))


METADATA = "image_id,dx,lesion_id,age\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "cannot be read as CSV (No columns"),
        (METADATA, "has no rows"),
        ("image_id,diagnosis\nISIC_1,nv\n", "all images are nv: a classifier needs two classes"),
        ("image_id,dignosis\nISIC_1,nv\n", "has the columns image_id, dignosis: which of them has the label?"),
        ("image_id,dx,dx\nISIC_1,nv,mel\n", "has two columns of the name dx: keep one"),
        ("image,NV,MEL,nv\nISIC_1,1,0,0\n", "has two columns of the name NV: keep one"),
        (f"{METADATA}ISIC_1,nv,,\nISIC_2,mel,,\nISIC_1,mel,,\n", "row 4, column image_id: 'ISIC_1' is in an"),
        (f"{METADATA}ISIC_1,nv,,\nISIC_1.jpg,nv,,\n", "row 3, column image_id: 'ISIC_1' is in an"),
        (f"{METADATA}ISIC_1,melanocytic nevus,,\n", "all images are melanocytic nevus"),
        (f"{METADATA}ISIC_1,nv,,inf\nISIC_2,mel,,\n", "row 2, column age: 'inf' is not an age of 0 to 120 years"),
        (f"{METADATA}ISIC_1,nv,,forty\n", "row 2, column age: 'forty' is not a number of years"),
        (f"{METADATA}ISIC_1,nv,\x1b[31mHAM,\n", r"row 2, column lesion_id: '\x1b[31mHAM' has control characters"),
        (f'{METADATA}ISIC_1,nv,"HAM\r1",\nISIC_2,mel,,\n', r"row 2, column lesion_id: 'HAM\r1' has control characters"),
        (f'{METADATA}"ISIC_1,nv,,\nISIC_2,mel,,\n', "cannot be read as CSV"),
        (f"{METADATA}ISIC_1\0,nv,,\n", r"row 2, column image_id: 'ISIC_1\x00' has control characters"),
        (f"{METADATA}ISIC_1,nv,,\nISIC_2,{'m el' * 500_000},,\n", "is too long for the name of a class"),
        (
            "image,MEL,NV\nISIC_1,0,1\nISIC_2,0,0\nISIC_3,1,1\n",
            "row 3: an image has a 1 under its class and a 0 under the others",
        ),
        ("image,MEL,NV\n" + "ISIC_1,0,0\n" * 100_000, "has MEL '0', NV '0' (and 99999 more)"),
        (METADATA + "ISIC_1,nv,,\n" * 100_000, "is in an earlier row too: keep one of them (and 99998 more)"),
    ],
    ids=lambda text: repr(text[:50]),
)
def test_a_bad_label_table_ends_the_stage_with_one_line(project: Path, text: str, fault: str) -> None:
    (project / "data/raw/labels.csv").write_text(text, encoding="utf-8", newline="")
    assert fault in fails(project)
    assert results(project) == []


def test_that_line_is_all_that_is_printed(project: Path) -> None:
    (project / "data/raw/labels.csv").write_text(METADATA)
    write_params(project, {})
    result = subprocess.run(
        [sys.executable, "-m", "stages.manifest"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: data/raw/labels.csv has no rows\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_all_that_a_spreadsheet_program_does_to_a_table_at_once_is_understood(project: Path, separator: str) -> None:
    header = ["lesion_id", "image_id", "dx", "age", "localization"]
    rows = [
        ["HAM_1", "ISIC_1.jpg", "NV", "45", '"back, lower; left"'],
        ["", " ISIC_2 ", " mel ", "NaN", '"said ""here"""'],
        ["HAM_3", "ISIC_3.JPEG", "Mel", "", '"Rücken"'],
    ]
    text = "".join(separator.join(row) + "\r\n" for row in [header, *rows])
    (project / "data/raw/labels.csv").write_text(text, encoding="utf-8-sig", newline="")
    run(project)
    manifest = read_table(project / "data/manifest.csv")
    assert manifest["image_id"].to_list() == ["ISIC_1", "ISIC_2", "ISIC_3"]
    assert manifest["label"].to_list() == ["nv", "mel", "mel"]
    assert manifest["lesion_id"].to_list() == ["HAM_1", "", "HAM_3"]
    assert np.array_equal(manifest["age"], [45, np.nan, np.nan], equal_nan=True)
    assert manifest["localization"].to_list() == ["back, lower; left", 'said "here"', "rücken"]


def test_a_table_may_have_a_column_named_label_of_its_own(project: Path) -> None:
    (project / "data/raw/labels.csv").write_text("image_id,dx,label\nISIC_1,nv,0\nISIC_2,mel,1\n")
    run(project)
    assert read_table(project / "data/manifest.csv")["label"].to_list() == ["nv", "mel"]


def test_a_class_that_nobody_else_has_is_counted_and_then_refused_by_name(project: Path) -> None:
    labels = ["nv", "nv", "nv", "mel", "mel", "mel", "mel", "mle"]
    rows = [f"ISIC_{number},{label}\n" for number, label in enumerate(labels, start=1)]
    (project / "data/raw/labels.csv").write_text("image_id,dx\n" + "".join(rows))
    run(project)
    assert json.loads((project / "metrics/data.json").read_text())["classes"] == {"mel": 4, "mle": 1, "nv": 3}
    line = fails(project, split)
    assert line.startswith("error: class mle has 1 of 8 images, too few to appear in every part")


def test_lesions_with_two_labels_are_counted_and_the_first_few_named(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lesions = [f"{label},ISIC_{number},HAM_{(number + 1) // 2}\n" for number, label in enumerate(["nv", "mel"] * 4, 1)]
    (project / "data/raw/labels.csv").write_text("dx,image_id,lesion_id\n" + "".join(lesions))
    run(project)
    named = ", ".join(f"HAM_{number} (mel and nv)" for number in range(1, 5))
    assert f"manifest: lesions with several labels: {named}\n" in capsys.readouterr().out
    assert json.loads((project / "metrics/data.json").read_text())["lesions_with_several_labels"] == 4


@pytest.fixture
def ham10000(tmp_path: Path) -> Path:
    """A project with as many images as HAM10000 has, 10,015, labelled as those are; each image is small and unique."""
    images = tmp_path / "data/raw/images"
    images.mkdir(parents=True)
    labels = sample.plan(10_015, seed=1)
    labels.to_csv(tmp_path / "data/raw/labels.csv", index=False)
    pixels = np.zeros((32, 32, 3), np.uint8)
    for number, image_id in enumerate(sorted(labels["image_id"])):
        pixels[0, 0] = number % 256, number // 256, 0
        cv2.imwrite(str(images / f"{image_id}.png"), pixels)
    return tmp_path


@pytest.mark.slow
def test_three_images_that_are_missing_of_10015_are_named_and_so_are_the_first_few_of_thousands(
    ham10000: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((ham10000 / "data/raw/images").iterdir())
    for path in images[5000:5003]:
        path.unlink()
    line = fails(ham10000)
    assert line.startswith("error: 3 of 10015 labelled images are bad: ")
    assert all(f"{path.stem}: no file of this name" in line for path in images[5000:5003])
    for path in images[:5000]:
        path.unlink()
    line = fails(ham10000)
    assert line.startswith("error: 5003 of 10015 labelled images are bad: ")
    assert "; and 4998 more; fix them" in line
    assert len(line) < 500
    assert results(ham10000) == []
    run(ham10000, on_bad_image="skip")
    assert len(read_table(ham10000 / "data/rejected.csv")) == 5003
    assert len(read_table(ham10000 / "data/manifest.csv")) == 5012
    assert len(capsys.readouterr().out) < 1000


@pytest.mark.slow
def test_a_few_files_under_thousands_of_ids_are_a_few_short_lines(
    ham10000: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((ham10000 / "data/raw/images").iterdir())
    contents = [path.read_bytes() for path in images[:12]]
    for number, path in enumerate(images):
        path.write_bytes(contents[number % 12])
    run(ham10000)
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("manifest: the same file under several ids: ") for line in lines) == 5
    assert "manifest: 7 more files under several ids" in lines
    assert sum("and 830 more" in line or "and 829 more" in line for line in lines) == 5
    assert max(map(len, lines)) < 200
