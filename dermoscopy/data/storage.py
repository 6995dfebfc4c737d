"""Files by where they are: a path on this machine, or an address that fsspec knows, such as s3://bucket/image.jpg.

An address has `://` in it. Whoever needs its file reads it, workers of a cluster too, with the credentials that are
found where they run; for S3 that is what the AWS SDK looks for (environment, ~/.aws, the machine's role).
"""

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from dermoscopy.runtime.errors import DataError, PipelineError, SourceError, StorageError
from dermoscopy.runtime.files import located
from dermoscopy.runtime.threads import map_ahead

# As the project's tables name files (`project_paths`), or as the user does.
Location = str | Path

# Latency, not the cores, limits reading: 32 at a time are 600 a second at 50 ms.
READERS = 32
# In seconds without a byte, and attempts at a request, with growing pauses after errors 500 and 503. s3fs asks twice
# for an image that could not be read, and twice again for one that was cut: so a server that never answers is given up
# after a minute.
S3_CONFIG = {
    "connect_timeout": 5,
    "read_timeout": 5,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": READERS,
}
S3_ATTEMPTS = 2
# Names under which storages give the version of a file, the surest first; in lower case.
VERSIONS = (
    "etag",
    "sha",
    "md5hash",
    "mtime",
    "lastmodified",
    "last_modified",
    "modificationtime",
    "updated",
    "created",
)


class StoredFile(NamedTuple):
    """A file of a storage: its address, its bytes, and a number that is another for each of its versions."""

    address: str
    bytes: int
    version: int


def is_remote(location: Location) -> bool:
    """Return whether this is an address, and not a path."""
    return "://" in str(location)


def readers(location: Location) -> int:
    """Return how many threads should read at a time from where this file is: one a core, but many for a storage."""
    return READERS if is_remote(location) else os.cpu_count() or 1


def read_bytes(location: Location) -> bytes:
    """Return the content of a file that the project's tables name.

    Raises:
        DataError: it is missing or, on this machine, cannot be read.
        StorageError: its storage cannot be read.
    """
    if not is_remote(location):
        try:
            return located(str(location)).read_bytes()
        except FileNotFoundError:
            raise _missing(location) from None
        except OSError as error:
            raise DataError(f"{location}: {error.strerror or error}") from None
    try:
        storage, path = _open_storage(str(location))
        content: bytes = storage.cat_file(path)
    except Exception as error:  # what is raised depends on the storage: OSError, ValueError, botocore's, aiohttp's
        raise _failure(str(location), error) from None
    return content


@contextmanager
def read_ahead(locations: Sequence[Location]) -> Iterator[Iterator[bytes]]:
    """Give the contents of one or more files, in their order, read ahead in threads; see `read_bytes`."""
    ahead = readers(locations[0])
    with ThreadPoolExecutor(ahead) as pool:
        yield map_ahead(pool, read_bytes, locations, ahead)


def open_file(location: Location) -> BinaryIO:
    """Return a file, open for reading; an OSError, or for an address what `read_bytes` raises, if it cannot be read."""
    return BytesIO(read_bytes(location)) if is_remote(location) else located(str(location)).open("rb")


def is_there(location: Location) -> bool:
    """Return whether there is such a file, which may be one that cannot be read; a StorageError if nobody knows."""
    if not is_remote(location):
        try:
            located(str(location)).stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            pass
        return True
    return stored_file(str(location)) is not None


def stored_files(address: str, deep: bool = True) -> list[StoredFile]:
    """Return the files below an address, as they are now, in the order of their names; nothing is read.

    Args:
        address: of a folder, without a slash at its end.
        deep: those of its subfolders too.

    Raises:
        StorageError: the storage cannot be read.
        SourceError: it does not say which version of a file it has.
    """
    try:
        storage, top = _open_storage(address)
        storage.invalidate_cache()
        found: dict[str, dict[str, Any]] = storage.find(top, maxdepth=None if deep else 1, detail=True)
    except FileNotFoundError as error:
        raise StorageError(f"{address} is not there ({_reason(error)}): name the folder of images") from None
    except Exception as error:  # see read_bytes
        raise _failure(address, error) from None
    inside = top.rstrip("/") + "/"
    names = sorted((name for name in found if name.startswith(inside)), key=lambda name: name.split("/"))
    return [_stored_file(f"{address}/{name.removeprefix(inside)}", found[name]) for name in names]


def stored_file(address: str) -> StoredFile | None:
    """Return a file of a storage as it is now, or None if there is none; see `stored_files` for what it raises."""
    try:
        storage, path = _open_storage(address)
        info: dict[str, Any] = storage.info(path)
    except FileNotFoundError:
        return None
    except Exception as error:  # see read_bytes
        raise _failure(address, error) from None
    return _stored_file(address, info) if info["type"] == "file" else None


def require_plain_address(address: str) -> None:
    """Raise a SourceError, which does not repeat it, if an address holds a secret, or is one inside another."""
    if re.search(r"://[^@]*:[^@]*@", address) or "?" in address:
        raise SourceError(
            f"an address ({address.partition('://')[0]}://...) has a password or a query in it, which would get into "
            "files: name bucket and folder only, and give credentials as docs/storage.md says"
        )
    if address.startswith(("http://", "https://")):
        raise SourceError(f"{address}: a web server does not say which version of a file it has: copy the images")
    if "::" in address:
        raise SourceError(f"{address} is an address inside another: unpack what it names, and name a folder")


def _open_storage(address: str) -> tuple[Any, str]:
    """Return the file system of an address, which fsspec makes once, and the path in it."""
    from fsspec.core import url_to_fs

    if not address.startswith(("s3://", "s3a://")):
        storage, path = url_to_fs(address)
        return storage, path
    # one part of an image at a time, or s3fs would first ask how large it is
    storage, path = url_to_fs(address, config_kwargs=S3_CONFIG, max_concurrency=1)
    storage.retries = S3_ATTEMPTS
    return storage, path


def _stored_file(address: str, info: dict[str, Any]) -> StoredFile:
    lower = {key.lower(): value for key, value in info.items()}
    version = next((str(lower[key]) for key in VERSIONS if lower.get(key)), None)
    if version is None or lower.get("size") is None:
        raise SourceError(f"{address}: its storage does not say which version it has: copy the images into a folder")
    number = int.from_bytes(hashlib.sha256(version.encode()).digest()[:7])
    return StoredFile(address, int(lower["size"]), number)


def _missing(location: Location) -> DataError:
    return DataError(f"{location} is missing: bring it back, or set data.directory to the folder where the images are")


def _failure(address: str, error: Exception) -> PipelineError:
    """Return the error of a storage in our words."""
    protocol = address.partition("://")[0]
    if isinstance(error, FileNotFoundError):
        return _missing(address)
    if isinstance(error, ImportError):
        remedy = "run make s3" if protocol in ("s3", "s3a") else "pip install it"
        return StorageError(f"{address} needs a package that is not installed ({_reason(error)}): {remedy}")
    # each storage has errors of its own: NoCredentialsError, TokenRetrievalError, ProfileNotFound, RefreshError of auth
    if isinstance(error, PermissionError) or re.search("Credential|Token|Profile|Auth", type(error).__name__):
        return StorageError(
            f"{address} may not be read ({_reason(error)}): check the credentials of {protocol}://, see docs/storage.md"
        )
    return StorageError(f"{address} cannot be read ({_reason(error)}): check address and network, and run again")


def _reason(error: Exception) -> str:
    """Return what an error says, in one line, without what may be secret in the addresses that it names."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = " ".join(said.split())
    return re.sub(r"(?<=://)[^\s\"']*@|\?[^\s\"']*", "", text)
