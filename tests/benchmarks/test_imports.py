"""What the benchmarks import."""

from benchmarks.startup import sources
from dermoscopy.runtime.workspace import PROJECT
from tests.support.imports import imported_files


def test_the_benchmarks_import_the_library_and_neither_stages_nor_tools() -> None:
    modules = [f"benchmarks.{file.stem}" for file in sources(PROJECT / "benchmarks")]
    folders = {file.split("/")[0] for module in modules for file in imported_files(module)}
    assert folders == {"benchmarks", "dermoscopy"}
