"""params.yaml: what is allowed is read as it stands, and every fault is one line that says what to mend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dermoscopy.runtime.errors import run
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import write_params

TEXT = (PROJECT / "params.yaml").read_text(encoding="utf-8")
STAGES = ["download", "manifest", "split", "backbone", "features", "train", "evaluate"]

RANGES: list[tuple[str, list[float], list[float]]] = [  # key, the extremes that are allowed, what is just beyond them
    ("data.retries", [0, 100], [-1, 101]),
    ("data.retry_wait", [0, 3600], [-1e-9, 3601]),
    ("data.longest_wait", [0, 3600], [-1e-9, 3601]),
    ("data.silence", [1, 3600], [0.99, 3601]),
    ("data.sample_images", [100, 100_000], [99, 100_001]),
    ("data.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("split.validation", [1e-9, 0.84], [0, 1]),
    ("split.test", [0, 0.84], [-1e-9, 1]),
    ("split.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("backbone.image_size", [32, 1024], [31, 1025]),
    ("backbone.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("augmentation.views", [0, 100], [-1, 101]),
    ("augmentation.rotation", [0, 0.5], [-1e-9, 0.501]),
    ("augmentation.zoom", [0, 0.999], [-1e-9, 1]),
    ("augmentation.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("train.dropout", [0, 0.999], [-1e-9, 1]),
    ("train.learning_rate", [1e-9, 1], [0, 1.001]),
    ("train.batch_size", [1, 65_536], [0, 65_537]),
    ("train.epochs", [1, 10_000], [0, 10_001]),
    ("train.patience", [1, 10_000], [0, 10_001]),
    ("train.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("evaluate.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("report.gallery", [0, 6], [-1, 7]),
]

NO_NUMBERS = [True, "0.5", None, [0.5], float("nan"), float("inf"), -float("inf")]


def message(path: Path) -> str:
    """Return what a stage prints that finds these params at fault."""
    with pytest.raises(SystemExit) as exit_info:
        run(lambda: print(load_params(path)))
    assert isinstance(exit_info.value.code, str)
    assert "\n" not in exit_info.value.code
    return exit_info.value.code


def message_for(folder: Path, key: str, value: object) -> str:
    """Return the message for one value in an otherwise good file."""
    section, name = key.split(".")
    return message(write_params(folder, {section: {name: value}}))


def message_for_text(folder: Path, text: str) -> str:
    """Return the message for a whole params.yaml."""
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return message(path)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, extremes, _ in RANGES for value in extremes], ids=str)
def test_the_ends_of_a_range_are_allowed(tmp_path: Path, key: str, value: float) -> None:
    section, name = key.split(".")
    params = load_params(write_params(tmp_path, {section: {name: value}}))
    assert getattr(getattr(params, section), name) == value


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, _, beyond in RANGES for value in beyond], ids=str)
def test_a_number_out_of_range_is_refused_with_key_value_and_range(tmp_path: Path, key: str, value: float) -> None:
    text = message_for(tmp_path, key, value)
    assert f"{key} = {value!r} is refused: allowed is a" in text
    assert "number >" in text
    assert " and <" in text


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize(("key", "allowed"), [("train.epochs", "a whole number"), ("train.dropout", "a number")])
def test_what_is_no_finite_number_is_refused_for_one(tmp_path: Path, key: str, allowed: str, value: object) -> None:
    assert f"{key} = {value!r} is refused: allowed is {allowed} >=" in message_for(tmp_path, key, value)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("train.epochs", 3.0, "a whole number"),
        ("data.keep_archive", "yes", "true or false"),
        ("evaluate.tta", 1, "true or false"),
        ("evaluate.calibrate", "on", "true or false"),
        ("evaluate.malignant", "mel", "a list of texts"),
        ("data.source", "kagle", "kaggle | directory | sample"),
        ("data.source", None, "kaggle | directory | sample"),
        ("split.group", "patient", "lesion | image"),
        ("features.engine", "torch", "auto | openvino | tensorflow"),
        ("train.class_weights", True, "balanced | none"),
        ("backbone.name", 50, "text"),
        ("backbone.name", "", "text"),
        ("data.directory", 2018, "text or null"),
        ("data.labels", "", "text or null"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_key_value_and_what_is_allowed(
    tmp_path: Path, key: str, value: object, allowed: str
) -> None:
    assert f"{key} = {value!r} is refused: allowed is {allowed}" in message_for(tmp_path, key, value)


@pytest.mark.parametrize("wrong", ["", 1])
def test_a_wrong_item_of_a_list_is_named(tmp_path: Path, wrong: object) -> None:
    text = message_for(tmp_path, "evaluate.malignant", ["mel", wrong])
    assert f"evaluate.malignant = {wrong!r} is refused: allowed is a list of texts" in text


def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    text = message_for(tmp_path, "train.drop_out", 0.3)
    assert "train.drop_out = 0.3 is not a known key: allowed here are dropout, learning_rate, batch_size" in text


def test_an_unknown_section_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    text = message_for_text(tmp_path, TEXT + "\ntraining:\n  dropout: 0.3\n")
    assert "training = {'dropout': 0.3} is not a known key: allowed here are data, split, backbone" in text


@pytest.mark.parametrize("key", ["1", "yes"])  # yes is true to YAML
@pytest.mark.parametrize("written", ["\ndata:\n  {}: 5\n", "\n{}: 5\ndata:\n"], ids=["key", "section"])
def test_a_key_that_is_no_text_is_refused(tmp_path: Path, written: str, key: str) -> None:
    text = message_for_text(tmp_path, TEXT.replace("\ndata:\n", written.format(key)))
    assert "params.yaml" in text
    assert "allowed" in text


def test_a_missing_key_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    content = yaml.safe_load(TEXT)
    del content["split"]["test"]
    text = message_for_text(tmp_path, yaml.safe_dump(content))
    assert "split.test is missing: allowed is a number >= 0 and < 1" in text


def test_a_missing_section_is_refused_with_its_keys(tmp_path: Path) -> None:
    content = yaml.safe_load(TEXT)
    del content["evaluate"]
    assert "evaluate is missing: allowed is a mapping with the keys tta" in message_for_text(
        tmp_path, yaml.safe_dump(content)
    )


def test_a_section_without_keys_is_refused(tmp_path: Path) -> None:
    content = yaml.safe_load(TEXT) | {"features": None}
    text = message_for_text(tmp_path, yaml.safe_dump(content))
    assert "features = None is refused: allowed is a mapping with the keys engine" in text


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = write_params(tmp_path, {"train": {"dropout": 2, "epochs": "many"}, "data": {"source": "web"}})
    text = message(path)
    assert all(fault in text for fault in ("train.dropout = 2", "train.epochs = 'many'", "data.source = 'web'"))


def test_parts_that_leave_nothing_to_train_on_are_refused_with_their_values(tmp_path: Path) -> None:
    text = message(write_params(tmp_path, {"split": {"validation": 0.25, "test": 0.75}}))
    assert "split.validation" in text
    assert "split.test" in text
    assert "below 1" in text
    assert "0.25" in text
    assert "0.75" in text


def test_a_directory_source_without_a_directory_is_refused(tmp_path: Path) -> None:
    assert "data.source=directory needs data.directory" in message(
        write_params(tmp_path, {"data": {"source": "directory", "directory": None}})
    )


@pytest.mark.parametrize(
    "text",
    [
        "data:\n\tsource: kaggle\n",
        "data: [kaggle\n",
        "a: 1\n---\nb: 2\n",
        "data: \0",
        TEXT.replace("labels: null", "labels: 2018-02-30"),  # to YAML a date, and there is no such day
        TEXT.replace("sample_images: 300", "sample_images: !!int many"),
    ],
    ids=["tab", "open bracket", "two documents", "control character", "no such day", "no such number"],
)
def test_what_is_no_yaml_is_refused(tmp_path: Path, text: str) -> None:
    assert "params.yaml" in message_for_text(tmp_path, text)


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    text = message_for_text(tmp_path, f"data: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert "params.yaml cannot be read as YAML" in text
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("text", ["", "- data\n", "data\n"], ids=["empty", "list", "text"])
def test_a_file_without_sections_is_refused_with_their_names(tmp_path: Path, text: str) -> None:
    found = message_for_text(tmp_path, text)
    assert all(section in found for section in ("data", "split", "backbone", "evaluate"))


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("data: {directory: Läsionen}\n".encode("latin-1"))
    assert "params.yaml cannot be read" in message(path)


def test_a_missing_file_is_refused_with_the_folder_it_is_missing_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"params.yaml is not in {tmp_path}" in message(Path("params.yaml"))


@pytest.mark.parametrize("written", ["1e-3", "1E-3", "1.0e-3", "0.001", "+1e-3"])
def test_a_number_may_be_written_with_an_exponent(tmp_path: Path, written: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("learning_rate: 0.001", f"learning_rate: {written}"), encoding="utf-8")
    assert load_params(path).train.learning_rate == 0.001


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_ends_with_one_line_and_leaves_no_file_at_bad_params(tmp_path: Path, stage: str) -> None:
    params = write_params(tmp_path, {"train": {"dropout": 2}})
    result = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == "error: params.yaml: train.dropout = 2 is refused: allowed is a number >= 0 and < 1\n"
    assert list(tmp_path.rglob("*")) == [params]
