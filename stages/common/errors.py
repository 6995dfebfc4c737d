"""Errors that a user can cause, and how a command ends when one occurs."""

import errno
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


def one_line(error: PipelineError) -> str:
    """Return the message for a terminal: one line, of 2,000 characters at most, of printable characters.

    Messages quote names and values of files that nobody has checked.
    """
    text = " ".join(str(error).split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 2000 else f"{text[:1495]} ... {text[-500:]}"


def run(main: Callable[[], None]) -> None:
    """Run a command; what a user can mend ends it with one line on stderr and exit code 1, Ctrl-C with 130."""
    try:
        main()
    except PipelineError as error:
        sys.exit("error: " + one_line(error))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        sys.exit(f"error: {error.strerror}: {error.filename or Path.cwd()}: mend this and run again")
    except KeyboardInterrupt:
        sys.exit(130)
