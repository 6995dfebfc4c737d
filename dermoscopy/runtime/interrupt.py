"""Ctrl-C while a command is being imported."""

import signal
import sys


def leave_on_interrupt() -> None:
    """Let Ctrl-C end the process at once until the command begins (`run_command`): nothing has been done yet.

    A traceback out of an import helps nobody. While Python looks for the module of `python -m`, argv[0] is "-m"; in
    any other case this does nothing.
    """
    if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
