"""Files and folders that appear whole or not at all, and paths as the user means them."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dermoscopy.runtime.errors import DataError, DiskError, ParamsError, megabytes

MAKE_ROOM = "make room on that disk and run again"


@contextmanager
def replacing(path: Path, size: int = 0) -> Iterator[Path]:
    """Give a path beside `path` to write a file or fill a folder at; it takes the place of `path` on success.

    DVC may have linked the old file read-only into its cache, so it is replaced and never written into. After an
    exception nothing is left of the new one and the old one stands.

    Args:
        path: what is to be written.
        size: how many bytes that takes, where they are known and many; refused at once if fewer are free.

    Raises:
        DataError: a file would take the place of a folder.
        DiskError: there is not enough room.
    """
    if path.name == "":
        raise DataError(f"{path} is not the name of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial.{path.name}")  # the suffix stays: libraries choose formats by it
    _remove(partial)
    free = shutil.disk_usage(path.parent).free
    if free < size:
        raise DiskError(f"{path} needs {megabytes(size)}, and {megabytes(free)} are free there: {MAKE_ROOM}")
    try:
        yield partial
        for file in _tree(partial):
            _fsync(file)
        if path.is_dir():
            if not partial.is_dir():
                raise DataError(f"{path} is a folder, and a file is to be written there: choose another name")
            _remove(path)
        partial.replace(path)
        _fsync(path.parent)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        taken = sum(512 * file.lstat().st_blocks for file in _tree(partial))
        free = shutil.disk_usage(path.parent).free + taken
        raise DiskError(f"{path} needs more than the {megabytes(free)} that are free there: {MAKE_ROOM}") from None
    finally:
        _remove(partial)


def _tree(path: Path) -> list[Path]:
    """Return what is in a folder, then the folder; or the file."""
    return [*sorted(path.rglob("*")), path] if path.exists() else []


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def project_folder() -> Path:
    """Return the top folder of the project, also in a copy of it: `dvc exp run --queue` and `--temp` run in one.

    The copies lie below .dvc/tmp/exps/ of the project.
    """
    for parent in Path.cwd().parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return Path.cwd()


def user_path(path: str) -> Path:
    """Return the absolute path that a param means: a relative one starts at the top folder of the project.

    In a copy that DVC made for an experiment it starts at the project that holds the copy: the user wrote it there.
    """
    try:
        return (project_folder() / Path(path).expanduser()).resolve()
    except RuntimeError as error:  # the home of a user that does not exist
        raise ParamsError(f"{path} is not a path: {error}") from None
