"""The layout: what imports what, and where names and paths stand."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from dermoscopy.runtime import paths
from dermoscopy.runtime.workspace import PROJECT
from tests.support.imports import imported_modules

# Each imports only from itself and those before it.
FOLDERS = ["runtime", "data", "features", "model", "scoring", "page"]
MAY_IMPORT = {
    "dermoscopy": {"dermoscopy"},
    "stages": {"dermoscopy"},
    "tools": {"dermoscopy"},
    "apps": {"dermoscopy", "apps"},
    "benchmarks": {"dermoscopy", "benchmarks"},
}
OURS = {*MAY_IMPORT, "tests"}
PATHS = {value for value in vars(paths).values() if isinstance(value, Path)}


def sources(folder: str) -> list[Path]:
    """Return the Python files of a folder, from the top of the project."""
    return [path.relative_to(PROJECT) for path in sorted((PROJECT / folder).rglob("*.py"))]


def path_literals(file: Path) -> Iterator[str]:
    """Yield the text of each Path("...") in a file."""
    for node in ast.walk(ast.parse((PROJECT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Path", "pathlib.Path"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str))


def test_the_library_has_exactly_the_folders_of_this_order() -> None:
    assert {path.parts[1] for path in sources("dermoscopy")} == {*FOLDERS, "__init__.py"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_of_the_library_import_one_way_only(folder: str) -> None:
    known = {f"dermoscopy.{name}" for name in FOLDERS[: FOLDERS.index(folder) + 1]}
    imported = {
        (str(file), module)
        for file in sources(f"dermoscopy/{folder}")
        for module in imported_modules(file)
        if module.startswith("dermoscopy.")
    }
    assert {(file, module) for file, module in imported if ".".join(module.split(".")[:2]) not in known} == set()


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_what_stages_tools_and_benchmarks_share_is_in_the_library(folder: str) -> None:
    imported = {(str(file), module.split(".")[0]) for file in sources(folder) for module in imported_modules(file)}
    not_ours_to_import = OURS - MAY_IMPORT[folder]
    assert {(file, package) for file, package in imported if package in not_ours_to_import} == set()


def test_no_module_has_the_name_of_a_folder_beside_it() -> None:
    assert [file for file in sources("dermoscopy") if (PROJECT / file).with_suffix("").is_dir()] == []


def test_every_path_is_named_once() -> None:
    found = {
        (str(file), text)
        for folder in ("dermoscopy", "stages", "tools", "apps")
        for file in sources(folder)
        if file != Path("dermoscopy/runtime/paths.py")
        for text in path_literals(file)
        if Path(text) in PATHS
    }
    assert len(PATHS) > 20
    assert found == set()
