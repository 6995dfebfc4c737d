"""dvc.yaml says what the code does: DVC cannot see a module or a param that it leaves out."""

import ast
import subprocess
import sys
from typing import Any

import pytest
import yaml

from dermoscopy.runtime.params import Params, load_params
from dermoscopy.runtime.workspace import PROJECT
from tests.support.imports import imported_files

PIPELINE: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
LEAVES = {
    f"{section}.{key}"
    for section, values in yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8")).items()
    for key in values
}
WITHOUT_TENSORFLOW = ["download", "manifest", "split", "features", "evaluate", "report"]

for_each_stage = pytest.mark.parametrize("stage", PIPELINE)


def outputs(stage: str) -> set[str]:
    """Return the paths that a stage writes, as dvc.yaml lists them."""
    listed = [out for kind in ("outs", "metrics", "plots") for out in PIPELINE[stage].get(kind, [])]
    return {path for out in listed for path in (out if isinstance(out, dict) else [out])}


def params_listed_by(stage: str) -> set[str]:
    """Return section.key for each param that dvc.yaml lists for a stage; a section stands for all its keys."""
    listed = PIPELINE[stage].get("params", [])
    return {leaf for leaf in LEAVES if leaf in listed or leaf.split(".")[0] in listed}


def params_read_by(stage: str) -> set[str]:
    """Return section.key for each param that the code of a stage reads, found in the source.

    A stage loads a section as an attribute of load_params() or of a variable `params`, and all code that it runs calls
    a section by its name. `params.model_dump()` reads all.
    """
    attributes = [
        node
        for file in imported_files(f"stages.{stage}")
        for node in ast.walk(ast.parse((PROJECT / file).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    ]
    if any(ast.unparse(node) == "params.model_dump" for node in attributes):
        return LEAVES
    sections = {node.attr for node in attributes if ast.unparse(node.value) in ("load_params()", "params")}
    read = {f"{ast.unparse(node.value).split('.')[-1]}.{node.attr}" for node in attributes}
    return {leaf for leaf in read & LEAVES if leaf.split(".")[0] in sections}


@for_each_stage
def test_each_stage_lists_exactly_the_modules_it_imports(stage: str) -> None:
    listed = {path for path in PIPELINE[stage]["deps"] if path.endswith(".py")}
    imported = {path for path in imported_files(f"stages.{stage}") if (PROJECT / path).stat().st_size}
    assert listed == imported


@for_each_stage
def test_data_a_stage_depends_on_are_made_by_an_earlier_stage(stage: str) -> None:
    earlier = list(PIPELINE)[: list(PIPELINE).index(stage)]
    made = set().union(*map(outputs, earlier)) if earlier else set()
    assert {path for path in PIPELINE[stage]["deps"] if not path.startswith("stages/")} <= made


@for_each_stage
def test_each_stage_lists_the_templates_beside_its_modules(stage: str) -> None:
    listed = {path for path in PIPELINE[stage]["deps"] if path.startswith("stages/") and not path.endswith(".py")}
    folders = {(PROJECT / path).parent for path in imported_files(f"stages.{stage}")}
    beside = {file for folder in folders for file in folder.iterdir() if file.is_file() and file.suffix != ".py"}
    assert {PROJECT / path for path in listed} == beside


def test_the_model_registry_is_given_the_head_that_train_writes() -> None:
    artifact = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["artifacts"]["head"]
    assert artifact["type"] == "model"
    assert artifact["path"] in outputs("train")


@for_each_stage
def test_each_stage_lists_exactly_the_params_it_reads(stage: str) -> None:
    assert params_listed_by(stage) == params_read_by(stage)


def test_each_param_is_listed_by_the_stage_that_uses_it_and_nothing_else_is() -> None:
    listed = {param for stage in PIPELINE.values() for param in stage.get("params", [])}
    assert listed <= LEAVES | set(Params.model_fields)
    # that the report shows them all does not count
    assert (
        set().union(*(params_listed_by(stage) for stage in PIPELINE if stage != "report"))
        | {leaf for leaf in LEAVES if leaf.startswith("report.")}
        == LEAVES
    )


def test_params_yaml_has_exactly_the_keys_of_the_schema() -> None:
    sections = load_params(PROJECT / "params.yaml").model_dump()
    assert {f"{section}.{key}" for section, values in sections.items() for key in values} == LEAVES
    assert set(sections) == set(Params.model_fields)


@for_each_stage
def test_each_stage_is_run_as_the_module_of_its_name(stage: str) -> None:
    assert PIPELINE[stage]["cmd"] == f"python -m stages.{stage}"
    assert (PROJECT / f"stages/{stage}.py").is_file()


def test_each_stage_file_is_a_stage_of_the_pipeline() -> None:
    assert {path.stem for path in (PROJECT / "stages").glob("*.py")} - {"__init__"} == set(PIPELINE)


@for_each_stage
def test_no_stage_imports_another(stage: str) -> None:
    others = {f"stages/{other}.py" for other in PIPELINE if other != stage}
    assert imported_files(f"stages.{stage}") & others == set()


def test_stages_that_need_no_tensorflow_do_not_import_it() -> None:
    code = "\n".join(
        f"import stages.{stage}; print('{stage}', *{{'tensorflow', 'keras'}} & set(sys.modules))"
        for stage in WITHOUT_TENSORFLOW
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n") == [*WITHOUT_TENSORFLOW, ""]
