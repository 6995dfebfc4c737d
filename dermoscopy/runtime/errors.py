"""Errors that a user can cause, and the words in which they are shown."""

import errno
from collections.abc import Iterable, Sequence


class PipelineError(Exception):
    """A fault that the user can fix; its message is one line: what is wrong, where, and what to do."""


class ParamsError(PipelineError):
    """params.yaml does not follow the schema."""


class SourceError(PipelineError):
    """The raw data cannot be fetched or found."""


class StorageError(PipelineError):
    """The folder or storage that holds the images is not there, or does not let us read."""


class DataError(PipelineError):
    """The data contradict the data contracts: tables, images, features."""


class BackboneError(PipelineError):
    """A backbone or its weights are missing or wrong."""


class ClusterError(PipelineError):
    """A Ray cluster cannot be reached, or its workers cannot do their work."""


class DiskError(PipelineError):
    """A disk does not have enough room."""


DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


def megabytes(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{size / 1e6:,.1f} MB"


def first_few(items: Sequence[str], separator: str = ", ", shown: int = 5) -> str:
    """Return the first items, and how many more there are, for a line that stays readable; see `enumerated`."""
    more = [f"and {len(items) - shown} more"] if len(items) > shown else []
    return enumerated([*items[:shown], *more], separator)


def enumerated(items: Iterable[str], separator: str = ", ") -> str:
    """Return the items in one line, those in quotes that have the separator in them, as names of classes may."""
    return separator.join(f'"{item}"' if separator in item else item for item in items)


def one_line(message: str) -> str:
    """Return a message for a terminal: one line, of 2,000 characters at most, of printable characters.

    Messages quote names and values of files that nobody has checked.
    """
    text = " ".join(message.split())
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 2000 else f"{text[:1495]} ... {text[-500:]}"
