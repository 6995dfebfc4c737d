"""dvc.yaml says what the code does: DVC cannot see a folder or a param that it leaves out."""

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks.startup import WITHOUT_TENSORFLOW
from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.paths import FOUND_LESIONS
from dermoscopy.runtime.workspace import PROJECT
from tests.support.imports import imported_files


def read_yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(PROJECT / name)
    return content


DVC = read_yaml("dvc.yaml")
PIPELINE: dict[str, dict[str, Any]] = DVC["stages"]
PARAMS = read_yaml("params.yaml")
CODE = ("stages", "dermoscopy")

for_each_stage = pytest.mark.parametrize("stage", PIPELINE)


def code_listed_by(stage: str) -> set[str]:
    """Return the files and folders of code that a stage depends on."""
    return {path for path in PIPELINE[stage]["deps"] if path.split("/")[0] in CODE}


def outputs(stage: str) -> set[str]:
    """Return the paths that a stage writes."""
    listed = [out for kind in ("outs", "metrics", "plots") for out in PIPELINE[stage].get(kind, [])]
    return {path for out in listed for path in (out if isinstance(out, dict) else [out])}


def params_taken_by(stage: str) -> set[str]:
    """Return the sections of the params that a stage's main() takes."""
    names = set(inspect.signature(import_module(f"stages.{stage}").main).parameters)
    return set(PARAMS) if names == {"params"} else names


def keys_read_by(stage: str, section: str) -> set[str]:
    """Return the keys of a section that the code of a stage reads, from a variable of the section's name."""
    return {
        node.attr
        for file in imported_files(f"stages.{stage}")
        for node in ast.walk(ast.parse((PROJECT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == section
    } & set(PARAMS[section])


@for_each_stage
def test_each_stage_lists_its_own_file_and_exactly_the_folders_that_it_imports_from(stage: str) -> None:
    files = imported_files(f"stages.{stage}") - {"stages/__init__.py", "dermoscopy/__init__.py"}
    needed = {file if file.startswith("stages/") else "/".join(file.split("/")[:2]) for file in files}
    assert f"stages/{stage}.py" in needed
    assert code_listed_by(stage) == needed
    assert all((PROJECT / path).exists() for path in needed)


@for_each_stage
def test_data_that_a_stage_depends_on_are_made_by_an_earlier_stage_or_are_in_git(stage: str) -> None:
    earlier = list(PIPELINE)[: list(PIPELINE).index(stage)]
    made = {path for other in earlier for path in outputs(other)}
    assert set(PIPELINE[stage]["deps"]) - code_listed_by(stage) <= made | {str(FOUND_LESIONS)}


def test_found_lesions_are_always_there_and_for_git() -> None:
    assert (PROJECT / FOUND_LESIONS).read_text(encoding="utf-8").startswith("image_id,lesion_id\n")
    ignored = subprocess.run(["git", "check-ignore", FOUND_LESIONS], cwd=PROJECT, capture_output=True, check=False)  # noqa: S607
    assert ignored.returncode == 1


@for_each_stage
def test_each_stage_lists_the_sections_of_the_params_that_its_main_takes(stage: str) -> None:
    assert {name.split(".")[0] for name in PIPELINE[stage]["params"]} == params_taken_by(stage)


@for_each_stage
def test_a_stage_that_lists_single_keys_lists_exactly_those_that_its_code_reads(stage: str) -> None:
    keys: dict[str, set[str]] = {}
    for name in PIPELINE[stage]["params"]:
        section, _, key = name.partition(".")
        keys.setdefault(section, set()).update(filter(None, [key]))
    for section, listed in keys.items():
        assert section in PIPELINE[stage]["params"] or listed == keys_read_by(stage, section)


def test_every_param_is_listed_by_a_stage_that_uses_it() -> None:
    listed = {name for stage in PIPELINE if stage != "report" for name in PIPELINE[stage]["params"]}
    leaves = {f"{section}.{key}" for section, values in PARAMS.items() for key in values}
    used = {leaf for leaf in leaves if leaf in listed or leaf.split(".")[0] in listed}
    # that the report shows them all does not count
    assert leaves - used == {f"report.{key}" for key in PARAMS["report"]}


def test_params_yaml_has_exactly_the_keys_of_the_schema() -> None:
    sections = load_params(PROJECT / "params.yaml").model_dump()
    assert {name: list(values) for name, values in sections.items()} == {
        name: list(values) for name, values in PARAMS.items()
    }
    assert list(PARAMS) == list(Params.model_fields)


@for_each_stage
def test_each_stage_is_run_as_the_module_of_its_name(stage: str) -> None:
    assert PIPELINE[stage]["cmd"] == f"python -m stages.{stage}"
    assert (PROJECT / f"stages/{stage}.py").is_file()


def test_each_file_in_stages_is_a_stage_of_the_pipeline() -> None:
    assert {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"} == set(PIPELINE)


def test_the_model_registry_is_given_the_head_that_train_writes() -> None:
    artifact = DVC["artifacts"]["head"]
    assert artifact["type"] == "model"
    assert artifact["path"] in outputs("train")


@pytest.mark.parametrize(
    ("file", "lines"),
    [(PROJECT / "dvc.yaml", 190), *((path, 60) for path in sorted((PROJECT / "stages").glob("*.py")))],
    ids=lambda value: value.name if isinstance(value, Path) else "",
)
def test_dvc_yaml_and_the_stages_are_short_enough_to_be_read_as_a_whole(file: Path, lines: int) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= lines


def test_stages_that_need_no_tensorflow_do_not_import_it() -> None:
    code = "\n".join(
        f"import stages.{stage}; print('{stage}', *{{'tensorflow', 'keras'}} & set(sys.modules))"
        for stage in WITHOUT_TENSORFLOW
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines() == list(WITHOUT_TENSORFLOW)
