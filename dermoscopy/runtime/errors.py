"""Errors that a user can cause, and how a command ends when one occurs."""

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path


class PipelineError(Exception):
    """A fault that the user can mend; its message is one line: what is wrong, where, and what to do."""


class ParamsError(PipelineError):
    """params.yaml does not say what the schema allows."""


class SourceError(PipelineError):
    """The raw data cannot be fetched or found."""


class DataError(PipelineError):
    """The data contradict the data contracts: tables, images, features."""


class BackboneError(PipelineError):
    """A backbone or its weights cannot be had."""


class DiskError(PipelineError):
    """A disk has not enough room."""


DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def megabytes(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e6:,.1f} MB"


def one_line(message: str) -> str:
    """Return a message for a terminal: one line, of 2,000 characters at most, of printable characters.

    Messages quote names and values of files that nobody has checked.
    """
    text = " ".join(message.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 2000 else f"{text[:1495]} ... {text[-500:]}"


def run(main: Callable[[], None]) -> None:
    """Run a command; what a user can mend ends it with one line on stderr and exit code 1, Ctrl-C with 130.

    Faults of files and disks are among that: the line gives the file and the system's reason.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see stages/__init__.py
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    except PipelineError as error:
        sys.exit("error: " + one_line(str(error)))
    except BrokenPipeError:  # who reads the output, head say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FAULTS:
            raise  # a fault of ours, perhaps
        where = Path(error.filename or Path.cwd())
        problem = f"{error.strerror}: {where}"
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(where if where.exists() else Path.cwd()).free
            problem += f": it needs more than the {megabytes(free)} that are free there"
        sys.exit("error: " + one_line(f"{problem}: mend this and run again"))
    except KeyboardInterrupt:
        sys.exit(130)
