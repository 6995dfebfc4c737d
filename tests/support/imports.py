"""Which files of this repository a module imports, found in the source."""

import ast
from pathlib import Path

from dermoscopy.runtime.workspace import PROJECT


def _source_files(module: str) -> list[Path]:
    """Return the files that importing a module of this repository executes: its own and its packages'."""
    parts = module.split(".")
    names = [Path(*parts[: length + 1]) for length in range(len(parts))]
    candidates = [path for name in names for path in (name.with_suffix(".py"), name / "__init__.py")]
    return [path for path in candidates if (PROJECT / path).is_file()]


def imported_modules(file: Path) -> set[str]:
    """Return every module that a file names in an import, wherever in the file, absolute names only."""
    modules = set()
    for node in ast.walk(ast.parse((PROJECT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module is not None
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def imported_files(module: str) -> set[str]:
    """Return the files of this repository that a module needs, itself included, as POSIX paths from the top."""
    found: set[Path] = set()
    waiting = _source_files(module)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [path for name in imported_modules(file) for path in _source_files(name)]
    return {file.as_posix() for file in found}
