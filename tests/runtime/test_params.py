"""params.yaml: right values are read as they stand, and every fault is one line that says what to fix."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import load_yaml
from ruamel.yaml import YAML

from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from tests.support.params_file import write_params

TEXT = (PROJECT / "params.yaml").read_text(encoding="utf-8")
SLOWER = ["manifest", "split", "backbone", "finetune", "features", "train", "evaluate", "report"]
STAGES = ["download", *(pytest.param(stage, marks=pytest.mark.slow) for stage in SLOWER)]

RANGES: list[tuple[str, list[float], list[float]]] = [  # key, the smallest and the largest value, what is just beyond
    ("data.sample_images", [100, 100_000], [99, 100_001]),
    ("data.seed", [0, 2**32 - 1], [-1, 2**32]),
    ("split.validation", [1e-9, 0.84], [0, 1]),
    ("split.test", [0, 0.84], [-1e-9, 1]),
    ("split.seed", [0, 2**32 - 1], [-1, 2**32]),
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

NOT_NUMBERS = [True, "0.5", None, [0.5], float("nan"), float("inf"), -float("inf")]


def message(path: Path) -> str:
    """Return what a stage prints that finds these params at fault."""
    with pytest.raises(SystemExit) as exit_info:
        run_command(lambda: print(load_params(path)))
    assert isinstance(exit_info.value.code, str)
    assert "\n" not in exit_info.value.code
    return exit_info.value.code


def message_for(folder: Path, key: str, value: object) -> str:
    """Return the message for one value in an otherwise good file."""
    section, name = key.split(".")
    return message(write_params(folder, {section: {name: value}}))


def written(folder: Path, text: str) -> Path:
    """Return the path of a params.yaml with this text."""
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message_for_text(folder: Path, text: str) -> str:
    """Return the message for a whole params.yaml."""
    return message(written(folder, text))


def with_value(name: str, value: str) -> str:
    """Return the text of a good file but for what is written behind one key, which stands in one section only."""
    text, count = re.subn(rf"(?m)^  {name}:.*$", f"  {name}: {value}", TEXT)
    assert count == 1
    return text


def without(section: str, key: str | None = None) -> dict[str, Any]:
    """Return the content of a good file but for one section, or for one key of it."""
    content: dict[str, Any] = YAML(typ="safe").load(TEXT)
    del (content[section] if key else content)[key or section]
    return content


def message_for_content(folder: Path, content: dict[str, Any]) -> str:
    """Return the message for a file with this content."""
    path = folder / "params.yaml"
    YAML().dump(content, path)
    return message(path)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, extremes, _ in RANGES for value in extremes], ids=str)
def test_the_ends_of_a_range_are_good(tmp_path: Path, key: str, value: float) -> None:
    section, name = key.split(".")
    params = load_params(write_params(tmp_path, {section: {name: value}}))
    assert getattr(getattr(params, section), name) == value


@pytest.mark.parametrize(
    ("key", "value", "must"),
    [(key, value, must) for key, _, beyond in RANGES for value, must in zip(beyond, ("greater", "less"), strict=True)],
    ids=str,
)
def test_a_number_out_of_range_is_refused_with_key_value_and_limit(
    tmp_path: Path, key: str, value: float, must: str
) -> None:
    assert f"params.yaml: {key} = {value!r}: input should be {must} than " in message_for(tmp_path, key, value)


@pytest.mark.parametrize("value", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("key", ["train.epochs", "train.dropout"])
def test_a_value_that_is_not_a_finite_number_is_refused_for_one(tmp_path: Path, key: str, value: object) -> None:
    kinds = "valid integer" if key == "train.epochs" else "(valid|finite) number"
    assert re.search(rf"{key} = {re.escape(repr(value))}: input should be a {kinds}", message_for(tmp_path, key, value))


@pytest.mark.parametrize(
    ("key", "value", "must"),
    [
        ("train.epochs", 3.0, "input should be a valid integer"),
        ("evaluate.tta", 1, "input should be a valid boolean"),
        ("evaluate.tta", "yes", "input should be a valid boolean"),
        ("evaluate.calibrate", "on", "input should be a valid boolean"),
        ("data.source", "kagle", "input should be 'kaggle', 'directory' or 'sample'"),
        ("data.source", None, "input should be 'kaggle', 'directory' or 'sample'"),
        ("data.lesions", "guessed", "input should be 'table' or 'found'"),
        ("split.group", "family", "input should be 'auto', 'patient', 'lesion' or 'image'"),
        ("features.engine", "cuda", "input should be 'auto', 'openvino', 'tensorflow', 'jax' or 'torch'"),
        ("train.class_weights", True, "input should be 'balanced' or 'none'"),
        ("backbone.name", 50, "input should be a valid string"),
        ("backbone.name", "", "string should have at least 1 character"),
        ("data.directory", 2018, "input should be a valid string"),
        ("data.labels", "", "string should have at least 1 character"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_with_key_value_and_what_it_must_be(
    tmp_path: Path, key: str, value: object, must: str
) -> None:
    assert f"params.yaml: {key} = {value!r}: {must}" in message_for(tmp_path, key, value)


def test_an_empty_item_of_a_list_is_named_with_its_place(tmp_path: Path) -> None:
    assert "evaluate.malignant.1 = '': " in message_for(tmp_path, "evaluate.malignant", ["mel", ""])


@pytest.mark.parametrize(("wrong", "right"), [([1], ["1"]), (["mel", True], ["mel", "True"]), ("mel", ["mel"])])
def test_names_of_classes_that_are_not_a_list_of_text_are_refused_with_how_to_write_them(
    tmp_path: Path, wrong: object, right: list[str]
) -> None:
    text = message_for(tmp_path, "evaluate.malignant", wrong)
    assert f"params.yaml: evaluate.malignant = {wrong!r} is neither null nor a list of names" in text
    assert f"write evaluate.malignant: {right} in params.yaml, or -S " in text
    assert load_params(write_params(tmp_path, {}), [f"evaluate.malignant={right}"]).evaluate.malignant == [
        name.lower() for name in right
    ]


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (32, 32),
        (75, 75),
        (1024, 1024),
        ([224, 448], [224, 448]),
        ([448, 224], [224, 448]),
        ([512, 32, 128], [32, 128, 512]),
        ([96, 288], [96, 288]),
    ],
    ids=str,
)
def test_an_image_size_is_a_number_or_several_which_are_put_in_order(
    tmp_path: Path, value: object, read: object
) -> None:
    assert load_params(write_params(tmp_path, {"backbone": {"image_size": value}})).backbone.image_size == read
    written_as = str(value).replace(" ", "")
    path = write_params(tmp_path, {"backbone": {"image_size": 64}})
    assert load_params(path, [f"backbone.image_size={written_as}"]).backbone.image_size == read


WRONG_SIZES = [31, 1025, 224.0, True, "224", None, {"a": 224}]
WRONG_LISTS = [
    [],
    [224],
    [224, 224],
    [128, 192],
    [75, 150],
    [32, 2048],
    [64.0, 128],
    [True, 64],
    ["224", 448],
    [[64, 128]],
]


@pytest.mark.parametrize("value", [*WRONG_SIZES, *WRONG_LISTS], ids=str)
def test_a_wrong_image_size_is_refused_with_its_value_and_all_that_it_may_be(tmp_path: Path, value: object) -> None:
    assert message_for(tmp_path, "backbone.image_size", value).endswith(
        f"params.yaml: backbone.image_size = {value!r} must be a whole number from 32 to 1024, or a list of several, "
        "each once, that are multiples of 32 and divide the largest, such as [224, 448]"
    )


def test_names_of_classes_are_read_as_labels_are(tmp_path: Path) -> None:
    params = load_params(write_params(tmp_path, {"evaluate": {"malignant": [" MEL", "Melanoma, NOS"]}}))
    assert params.evaluate.malignant == ["mel", "melanoma, nos"]


def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    text = message_for(tmp_path, "train.drop_out", 0.3)
    assert "train.drop_out is not a known key: the keys here are dropout, learning_rate, batch_size" in text


def test_an_unknown_section_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    text = message_for_text(tmp_path, TEXT + "\ntraining:\n  dropout: 0.3\n")
    assert "training is not a known key: the keys here are data, split, backbone" in text


@pytest.mark.parametrize("key", ["1", "null", "2018-02-03"])
@pytest.mark.parametrize("place", ["\ndata:\n  {}: 5\n", "\n{}: 5\ndata:\n"], ids=["key", "section"])
def test_a_key_that_is_not_text_is_refused(tmp_path: Path, place: str, key: str) -> None:
    text = message_for_text(tmp_path, TEXT.replace("\ndata:\n", place.format(key)))
    assert " is not a known key: the keys here are " in text


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    assert message_for_content(tmp_path, without("split", "test")).endswith("params.yaml: split.test is missing")


def test_a_missing_section_is_named(tmp_path: Path) -> None:
    assert message_for_content(tmp_path, without("evaluate")).endswith("params.yaml: evaluate is missing")


@pytest.mark.parametrize("value", [None, 5, ["engine"]], ids=str)
def test_a_section_that_has_no_keys_is_refused_with_those_it_must_have(tmp_path: Path, value: object) -> None:
    text = message_for_content(tmp_path, without("features") | {"features": value})
    assert text.endswith("params.yaml: features must have the keys engine, precision")


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
    ("text", "fault"),
    [
        ("data:\n\tsource: kaggle\n", ", line 2 cannot be read as YAML: found character"),
        ("data: [kaggle\n", ", line 2 cannot be read as YAML: expected"),
        ("a: 1\n---\nb: 2\n", ", line 2 cannot be read as YAML: but found another document"),
        ("data: \0", " cannot be read as YAML: unacceptable character"),
        # to YAML a date, and there is no such day
        (with_value("labels", "2018-02-30"), " cannot be read as YAML: day is out of range"),
        (with_value("sample_images", "!!int many"), " cannot be read as YAML: invalid literal"),
        ("data: [" * 5000, " cannot be read as YAML: it is nested too deeply"),
    ],
    ids=["tab", "open bracket", "two documents", "control character", "no such day", "no such number", "nested"],
)
def test_a_file_that_is_not_yaml_is_refused_with_the_line_where_it_is_known(
    tmp_path: Path, text: str, fault: str
) -> None:
    assert f"params.yaml{fault}" in message_for_text(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [("\nsplit:\n", "\ndata:\n", "split:", "data"), ("  zoom:", "  rotation:", "  zoom:", "rotation")],
    ids=["section", "key"],
)
def test_a_key_that_stands_twice_is_refused_with_its_second_line(
    tmp_path: Path, old: str, new: str, line: str, key: str
) -> None:
    assert TEXT.count(old) == 1
    number = 1 + next(number for number, text in enumerate(TEXT.splitlines()) if text.startswith(line))
    text = message_for_text(tmp_path, TEXT.replace(old, new))
    assert f'params.yaml, line {number} cannot be read as YAML: found duplicate key "{key}"' in text


def test_a_file_cannot_run_code(tmp_path: Path) -> None:
    text = message_for_text(tmp_path, f"data: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    assert "params.yaml, line 1 cannot be read as YAML" in text
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


@pytest.mark.parametrize("number", ["1e-3", "1E-3", "1.0e-3", "0.001", "+1e-3"])
def test_a_number_may_be_written_with_an_exponent(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, with_value("rotation", number))
    assert load_params(path).augmentation.rotation == 0.001


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "NO"])
def test_yes_and_no_are_text(tmp_path: Path, word: str) -> None:
    path = written(tmp_path, with_value("name", word))
    assert load_params(path).backbone.name == word
    text = message_for_text(tmp_path, with_value("tta", word))
    assert f"evaluate.tta = {word!r}: input should be a valid boolean" in text


@pytest.mark.parametrize("number", ["0377", "0o377", "0x1F0", "1_000", "+150"])
def test_a_number_means_to_us_what_it_means_to_dvc(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, with_value("sample_images", number))
    assert load_params(path).data.sample_images == load_yaml(str(path))["data"]["sample_images"]


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
    assert result.stderr == "error: params.yaml: train.dropout = 2: input should be less than 1\n"
    assert list(tmp_path.rglob("*")) == [params]
