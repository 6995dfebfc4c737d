"""Commands for people, outside the pipeline; each is run as `python -m tools.NAME`."""

import stages  # noqa: F401 - lets Ctrl-C end a command while it is imported
