"""How a command ends when something goes wrong."""

import errno
import os

import pytest

from stages.common.errors import DataError, run


def fail(error: BaseException) -> str:
    """Return what is printed at the end of a command that raises this error."""

    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        run(command)
    return str(end.value.code)


def test_what_the_user_can_mend_is_one_line() -> None:
    assert fail(DataError("a table\n  is odd")) == "error: a table is odd"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_cannot_be_written_is_one_line_that_names_the_file(number: int) -> None:
    line = fail(OSError(number, os.strerror(number), "data/split.csv"))
    assert line == f"error: {os.strerror(number)}: data/split.csv: mend this and run again"


def test_a_fault_of_ours_is_not_hidden() -> None:
    def command() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file", "nothing")

    with pytest.raises(FileNotFoundError):
        run(command)


def test_an_interrupt_has_its_own_exit_code() -> None:
    assert fail(KeyboardInterrupt()) == "130"
