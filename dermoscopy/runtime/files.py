"""Files and folders that appear whole or not at all, and paths as the user means them."""

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

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


@contextmanager
def user_output(path: Path) -> Iterator[Path]:
    """Give a path to write a file at that a user has named; on success its content is where the user wants it.

    A file appears whole or not at all, as with `replacing`; a symbolic link stays and its target is replaced. A pipe, a
    device or a standard stream is written to, when all content is there.

    Args:
        path: of the file; "-" is standard output.

    Raises:
        DataError: it is a folder, its folder does not exist, or it cannot be written to.
    """
    stream = standard_stream(path)
    if stream is None and is_replaceable(path):
        with replacing(path.resolve()) as partial:
            yield partial
        return
    with TemporaryDirectory() as folder:
        content = Path(folder) / path.name
        yield content
        try:
            descriptor = os.open(path, os.O_WRONLY) if stream is None else os.dup(stream)
            with content.open("rb") as source, os.fdopen(descriptor, "wb") as target:
                shutil.copyfileobj(source, target)
        except BrokenPipeError:
            if stream is not None:
                raise  # the reader, such as head, has seen enough
            raise DataError(f"{path} cannot be written to: nobody reads it any more") from None
        except OSError as error:
            name = "standard output" if stream == 1 else path
            raise DataError(f"{name} cannot be written to ({error.strerror}): fix this and run again") from None


def standard_stream(path: Path) -> int | None:
    """Return 1 or 2 if a path that a user has named is standard output, also as "-", or standard error, else None.

    By its name /dev/stdout is a link, at times to an ordinary file, which must not be replaced under the shell's hands.
    """
    if str(path) == "-":
        return 1
    for stream in (1, 2):
        with suppress(OSError):  # there is no such file, or the stream is closed
            if os.path.samestat(path.stat(), os.fstat(stream)):
                return stream
    return None


def is_replaceable(path: Path) -> bool:
    """Return whether a path is, through symbolic links, that of a file or of none yet; False for a pipe or a device.

    Raises:
        DataError: it is a folder, or its folder does not exist or cannot be written to.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, and a file is to be written there: choose another name")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
    except FileNotFoundError:
        pass
    folder = path.resolve().parent
    if not folder.is_dir():
        raise DataError(f"{path}: the folder {folder} does not exist: make it first")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: the folder {folder} cannot be written to: choose another")
    return True


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


def project_paths(paths: Iterable[Path]) -> list[str]:
    """Return how the project's files name paths: relative to its top if they are in it, so that it may move."""
    project = project_folder()
    return [(path.relative_to(project) if path.is_relative_to(project) else path).as_posix() for path in paths]


def located(path: str) -> Path:
    """Return where the file is that `project_paths` named; in a copy for an experiment, what it lacks is the project's.

    The copy has no file that neither Git nor DVC knows, such as images that the user keeps in the project.
    """
    here = Path(path)
    if here.exists():
        return here
    original = project_folder() / path
    return original if original.exists() else here
