"""How a command ends when something goes wrong."""

import errno
import os
import re
from pathlib import Path

import pytest

from dermoscopy.runtime.errors import DataError, run


def fail(error: BaseException) -> str:
    """Return what is printed at the end of a command that raises this error."""

    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run(command)
    return str(end.value.code)


def test_what_the_user_can_mend_is_one_line() -> None:
    assert fail(DataError("a table\n  is odd")) == "error: a table is odd"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EISDIR, errno.EIO])
def test_a_file_that_cannot_be_read_or_written_is_one_line_that_names_it(number: int) -> None:
    line = fail(OSError(number, os.strerror(number), "data/split.csv"))
    assert line == f"error: {os.strerror(number)}: data/split.csv: mend this and run again"


@pytest.mark.parametrize("name", ["data/split.csv", None])
def test_a_full_disk_is_one_line_that_says_how_much_is_free(name: str | None) -> None:
    line = fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name))
    place = name or str(Path.cwd())
    assert line.startswith(f"error: No space left on device: {place}: it needs more than the ")
    assert re.search(r"[\d,.]+ MB that are free there: mend this and run again$", line)


@pytest.mark.parametrize("error", [KeyError("nothing"), OSError("of a library"), OSError(errno.EBADF, "bad")])
def test_a_fault_of_ours_is_not_hidden(error: Exception) -> None:
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        run(command)


def test_an_interrupt_has_its_own_exit_code() -> None:
    assert fail(KeyboardInterrupt()) == "130"
