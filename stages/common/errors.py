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


def run(main: Callable[[], None]) -> None:
    """Run a command; what a user can mend ends it with one line on stderr and exit code 1, Ctrl-C with 130."""
    try:
        main()
    except PipelineError as error:
        sys.exit("error: " + " ".join(str(error).split()))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        sys.exit(f"error: {error.strerror}: {error.filename or Path.cwd()}: mend this and run again")
    except KeyboardInterrupt:
        sys.exit(130)
