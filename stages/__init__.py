"""The stages of the pipeline; each is run as `python -m stages.NAME`."""

import signal
import sys

# While Python looks for the module of `python -m`, argv[0] is "-m". Until the command begins (stages/common/errors.py),
# Ctrl-C ends the process at once: nothing has been done, and a traceback out of an import helps nobody.
if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
