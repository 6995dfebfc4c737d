"""How a command runs and ends: one line and exit code 1 for what a user can fix, 130 for Ctrl-C, no traceback."""

import errno
import inspect
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dermoscopy.runtime.errors import DISK_FAULTS, ParamsError, PipelineError, megabytes, one_line
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.paths import PARAMS


def run_stage(main: Callable[..., None]) -> None:
    """Run a stage as a command: give it its params, and fail if params.yaml changed meanwhile.

    DVC records the values that stand in the file when a stage ends, and would take outputs of the old ones for outputs
    of the new ones.

    Args:
        main: the stage; each of its arguments is named after a section of the params, which it is given, or is
            `params`, all of them.
    """

    def run() -> None:
        before = sections_of(main)
        main(**before)
        for name, section in sections_of(main).items():
            for key, value in section:
                if value != getattr(before[name], key):
                    changed = key if name == "params" else f"{name}.{key}"
                    raise ParamsError(f"{PARAMS}: {changed} was changed while the stage ran: run dvc repro again")

    run_command(run)


def sections_of(main: Callable[..., None]) -> dict[str, Any]:
    """Return what a stage's main() takes, by argument, from params.yaml."""
    params = load_params()
    return {name: params if name == "params" else getattr(params, name) for name in inspect.signature(main).parameters}


def run_command(main: Callable[[], None]) -> None:
    """Run a command; what a user can fix ends it with one line on stderr and exit code 1, Ctrl-C with 130.

    Faults of files and disks are among that: the line gives the file and the system's reason.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see `leave_on_interrupt`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one that is closed, nor the stand-in of a test
            stream.reconfigure(errors="backslashreplace")  # a console may lack the letters of a file's name
    try:
        main()
    except PipelineError as error:
        sys.exit("error: " + one_line(str(error)))
    except BrokenPipeError:  # the reader of the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno not in DISK_FAULTS:
            raise  # probably our bug
        where = Path(error.filename or Path.cwd())
        problem = f"{error.strerror}: {where}"
        if error.errno == errno.ENOSPC:
            free = shutil.disk_usage(where if where.exists() else Path.cwd()).free
            problem += f": it needs more than the {megabytes(free)} that are free there"
        sys.exit("error: " + one_line(f"{problem}: fix this and run again"))
    except KeyboardInterrupt:
        sys.exit(130)
