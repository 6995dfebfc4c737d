"""The exported classifier: the numbers of predict in each format, what it says of itself, where it runs."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from dermoscopy import VERSION
from dermoscopy.data.tables import write_table
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.model.clinical import ClinicalEncoder
from dermoscopy.model.head_info import read_head_info
from dermoscopy.page.facts import data_version
from dermoscopy.page.model_card import how_to_use
from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.metrics import point_metrics, write_metrics
from tests.support.classifier_project import CLASSES, PRIOR, compute_features, write_classifier
from tests.support.clinical import make_encoder
from tests.support.once import made_once
from tests.support.params_file import write_params
from tests.support.photographs import write_photographs
from tests.support.prediction_tables import eight_images
from tests.support.tool import run_tool
from tools.export import describe, form_and_file, main, second_input_in_words

ENCODER = make_encoder(age=(51.25, 15.5), sex=["female", "male"], localization=["back", "lower extremity"])
KNOWN = pd.DataFrame(
    {"age": [20, np.nan, 80], "sex": ["male", "female", ""], "localization": ["back", "elbow", "lower extremity"]}
)
PAGE = (PROJECT / "docs/exported_model.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
Predict = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """A project whose head knows the image alone, with three photographs; tests change nothing but models/."""
    return made_once(tmp_path_factory, "plain-export", lambda folder: fill(folder, backbones["first"], None))


@pytest.fixture(scope="module")
def clinical(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """The same with a head that takes clinical numbers."""
    return made_once(tmp_path_factory, "clinical-export", lambda folder: fill(folder, backbones["first"], ENCODER))


def fill(folder: Path, backbone: Path, encoder: ClinicalEncoder | None) -> None:
    write_params(folder, {"evaluate": {"prior_exponent": 0.5}})
    files = write_photographs(folder / "images", 3)
    features = compute_features(backbone, files)
    write_classifier(folder, backbone, features.reshape(-1, features.shape[-1]), encoder)
    KNOWN.assign(image=[file.name for file in files]).to_csv(folder / "known.csv", index=False)
    (folder / "photo.jpg").write_bytes(files[0].read_bytes())
    for option in ("--tta", "--no-tta"):
        known = ["--clinical", "known.csv"] if encoder else []
        run_tool("predict", folder, "images", option, "--csv", f"predicted{option}.csv", *known)
    run_tool("predict", folder, "photo.jpg", "--no-tta", "--csv", "unknown.csv")


def in_keras(path: Path) -> Predict:
    import keras

    model = keras.saving.load_model(path)
    return lambda **inputs: model.predict(inputs if len(inputs) > 1 else inputs["image"], verbose=0)


def in_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda **inputs: session.run(["probabilities"], inputs)[0]


def in_tflite(path: Path) -> Predict:
    import tensorflow as tf

    runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    return lambda **inputs: runner(**inputs)["probabilities"]


def about_of(path: Path) -> dict[str, Any]:
    """Return the description in a file, without its model."""
    if path.suffix == ".onnx":
        import onnx

        (entry,) = [entry for entry in onnx.load(path).metadata_props if entry.key == "about"]
        return dict(json.loads(entry.value))
    return dict(json.loads(zipfile.ZipFile(path).read("about.json")))


def test_the_numbers_of_the_second_input_and_those_of_nothing_known_are_said() -> None:
    assert second_input_in_words(ENCODER) == (
        "its second input, clinical, takes 8 numbers: age, age: unknown, sex: female, sex: male, sex: unknown, "
        "localization: back, localization: lower extremity, localization: unknown (age is (years - 51.25) / 15.5, 0 "
        "where unknown; others are 1 where it is so and 0 where not); zeros do not mean unknown: where nothing is "
        "known the numbers are 0, 1, 0, 0, 1, 0, 0, 1"
    )
    assert second_input_in_words(make_encoder(sex=["male"])) == (
        "its second input, clinical, takes 2 numbers: sex: male, sex: unknown (1 where it is so and 0 where not); "
        "zeros do not mean unknown: where nothing is known the numbers are 0, 1"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "project", "tta", "load"),
    [
        ("keras", "plain", True, in_keras),
        ("keras", "clinical", False, in_keras),
        ("onnx", "plain", False, in_onnx),
        ("onnx", "clinical", True, in_onnx),
        ("tflite", "plain", True, in_tflite),
        ("tflite", "clinical", False, in_tflite),
    ],
)
def test_the_exported_classifier_gives_the_probabilities_of_predict(
    request: pytest.FixtureRequest, keras: Any, tmp_path: Path, form: str, project: str, tta: bool, load: Any
) -> None:
    folder: Path = request.getfixturevalue(project)
    path = tmp_path / f"model.{form}"
    said = run_tool("export", folder, str(path), *["--tta"] * tta).out.splitlines()
    predicted = pd.read_csv(folder / f"predicted--{'tta' if tta else 'no-tta'}.csv")
    expected = predicted[[f"p_{name}" for name in CLASSES]].to_numpy()
    images = np.stack([np.asarray(Image.open(file)) for file in sorted((folder / "images").iterdir())])
    inputs = {"image": images} | ({"clinical": ENCODER.encode(KNOWN)} if project == "clinical" else {})

    predict, about = load(path), about_of(path)
    found = predict(**inputs)
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert expected.std(axis=0).max() > 0.02  # images differ by more than that
    named = [about["classes"][number] for number in (found * about["factors"]).argmax(axis=1)]
    assert named == list(predicted["predicted"])
    assert about["views"] == (read_head_info(folder / "models/head.json").augmentation.views + 1 if tta else 1)
    smaller = {name: values[:1] for name, values in inputs.items()} | {"image": images[:1, :100, :90]}
    assert predict(**smaller).shape == (1, len(CLASSES))  # another size and number
    assert "any size" in said[0]
    if project == "clinical":
        assert said[1] == f"export: {second_input_in_words(ENCODER)}"
        others = predict(**inputs | {"clinical": ENCODER.encode(KNOWN)[::-1].copy()})
        assert np.abs(others - expected).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["keras", "tflite"])
def test_the_same_model_gives_the_same_bytes(plain: Path, tmp_path: Path, form: str) -> None:
    first, second = tmp_path / f"first.{form}", tmp_path / f"second.{form}"
    run_tool("export", plain, str(first))
    run_tool("export", plain, str(second))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["keras", "onnx", "tflite"])
def test_the_lines_of_the_documentation_run_where_nothing_of_this_project_is(
    plain: Path, tmp_path: Path, form: str
) -> None:
    (snippet,) = [text for text in SNIPPETS if f"models/classifier.{form}" in text]
    assert len(snippet.splitlines()) <= 11
    assert_prints_what_predict_does(sys.executable, snippet, plain, export_beside_a_photo(plain, tmp_path, form))


@pytest.mark.slow
@pytest.mark.parametrize("project", ["plain", "clinical"])
def test_the_lines_of_the_card_run_where_nothing_of_this_project_is(
    request: pytest.FixtureRequest, tmp_path: Path, project: str
) -> None:
    folder: Path = request.getfixturevalue(project)
    snippet = how_to_use(clinical=project == "clinical")
    assert_prints_what_predict_does(sys.executable, snippet, folder, export_beside_a_photo(folder, tmp_path, "keras"))


@pytest.mark.slow
def test_keras_3_6_on_jax_loads_it_in_an_environment_of_its_own(
    clinical: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    environment = tmp_path_factory.mktemp("keras-3.6")
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    python = environment / "bin/python"
    packages = ["keras==3.6.0", "jax==0.4.38", "pillow"]
    installed = subprocess.run(
        [*uv, "pip", "install", "--quiet", "--python", python, *packages], capture_output=True, text=True, check=False
    )
    if installed.returncode:
        pytest.skip(f"no network, or no such packages: {installed.stderr[:200]}")
    folder = export_beside_a_photo(clinical, tmp_path, "keras", "--tta")
    run_tool("predict", clinical, "photo.jpg", "--tta", "--csv", str(tmp_path / "expected.csv"))
    assert_prints_what_predict_does(
        str(python), how_to_use(clinical=True), clinical, folder, tmp_path / "expected.csv", KERAS_BACKEND="jax"
    )


def export_beside_a_photo(project: Path, folder: Path, form: str, *options: str) -> Path:
    """Return a folder in which models/classifier.FORM and photo.jpg are, and nothing else."""
    (folder / "elsewhere/models").mkdir(parents=True)
    run_tool("export", project, "--format", form, str(folder / f"elsewhere/models/classifier.{form}"), *options)
    (folder / "elsewhere/photo.jpg").write_bytes((project / "photo.jpg").read_bytes())
    return folder / "elsewhere"


def assert_prints_what_predict_does(
    python: str, snippet: str, project: Path, folder: Path, expected: Path | None = None, **environment: str
) -> None:
    """Run lines of Python that cannot import anything of this project, and compare what they print."""
    alone = "import importlib.util\nassert importlib.util.find_spec('dermoscopy') is None\n"
    environment |= {"PATH": "", "HOME": str(folder), "CUDA_VISIBLE_DEVICES": "-1"}
    result = subprocess.run(
        [python, "-I", "-c", alone + snippet], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    chosen, _, shown = result.stdout.splitlines()[-1].partition(" ")
    (row,) = pd.read_csv(expected or project / "unknown.csv").to_dict("records")
    assert chosen == row["predicted"]
    numbers = ast.literal_eval(re.sub(r"np\.float32\((.*?)\)", r"\1", shown))
    assert numbers == pytest.approx({name: row[f"p_{name}"] for name in CLASSES}, abs=0.02)


def test_what_is_known_of_the_run_is_in_about_json(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, backbone = read_head_info(plain / "models/head.json"), read_backbone_info(plain / "models/backbone")
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, {"evaluate": {"prior_exponent": 1.0}, "data": {"source": "directory", "directory": "x"}})
    params = load_params()
    about = describe(info, backbone, params, views=1)
    assert about["classes"] == CLASSES
    assert np.multiply(about["factors"], PRIOR) == pytest.approx([about["factors"][0] * PRIOR[0]] * 3)
    assert about["malignant"] == ["mel"]
    assert about["backbone"] == {"name": "MobileNetV2", "image_size": 64, "fingerprint": backbone.fingerprint}
    assert [about["calibration"], about["clinical"], about["data"]] == [None, None, {"name": None, "version": None}]
    assert "CC BY-NC" not in about["licence"]

    (tmp_path / "metrics").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "metrics/data.json").write_text('{"dataset": "HAM10000"}')
    manifest = pd.DataFrame({"image_id": ["a"], "label": ["nv"], "sha256": ["0" * 64]})
    write_table(manifest, tmp_path / "data/manifest.csv")
    biases = {"nv": 0.3, "mel": 0.2, "bkl": -0.5}
    scores = point_metrics(eight_images())
    write_metrics({"validation": scores, "test": scores.model_copy(update={"temperature": 1.5, "biases": biases})})
    about = describe(info.model_copy(update={"clinical": ENCODER}), backbone, params, views=3)
    assert about["calibration"] == {"temperature": 1.5, "biases": [-0.5, 0.2, 0.3]}
    assert about["data"] == {"name": "HAM10000", "version": data_version(manifest)}
    assert about["licence"].startswith("CC BY-NC 4.0")
    assert about["clinical"]["age"] == {"mean": 51.25, "deviation": 15.5}
    assert about["clinical"]["unknown"] == ENCODER.unknown().tolist()
    assert "not a medical device" in about["use"]
    json.dumps(about, allow_nan=False)


def test_of_classes_that_nobody_knows_no_screening_list_is_given(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain)
    info = read_head_info().model_copy(update={"classes": ["one", "mel", "nv"]})
    assert describe(info, read_backbone_info(Path("models/backbone")), load_params(), 1)["malignant"] is None


def test_a_class_that_no_training_image_had_is_never_chosen(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain)
    info = read_head_info().model_copy(update={"prior": [0.0, 0.1, 0.9]})
    factors = describe(info, read_backbone_info(Path("models/backbone")), load_params(), 1)["factors"]
    assert factors[0] == 0
    assert np.isfinite(factors).all()


def test_the_version_is_that_of_the_project() -> None:
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == VERSION


def test_the_name_of_the_file_chooses_the_format() -> None:
    assert form_and_file(None, None) == ("keras", Path("models/classifier.keras"))
    assert form_and_file("onnx", None) == ("onnx", Path("models/classifier.onnx"))
    assert form_and_file(None, Path("a/b.tflite")) == ("tflite", Path("a/b.tflite"))
    assert form_and_file("keras", Path("b.keras")) == ("keras", Path("b.keras"))
    for form, file in [("onnx", "b.keras"), (None, "b.h5"), ("keras", "b")]:
        with pytest.raises(PipelineError, match=f"{file}: the name of a file for {form or 'keras'} must end with"):
            form_and_file(form, Path(file))


def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # None: it cannot be imported
    monkeypatch.setattr(sys, "argv", ["export", "--format", "onnx"])
    with pytest.raises(PipelineError, match="run make onnx"):
        main()


def test_a_folder_that_is_not_there_is_one_line(plain: Path) -> None:
    error = run_tool("export", plain, "missing/model.keras", status=1).err
    assert len(error.splitlines()) == 1
    assert "missing" in error
