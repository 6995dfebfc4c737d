"""HAM10000 from Kaggle, fetched with Kaggle's own client: tried again where that may help, and never from the start."""

import contextlib
import errno
import functools
import io
import os
import shutil
import sys
import time
import zipfile
from itertools import count
from pathlib import Path
from typing import Any

from dermoscopy.data.sources.archive import extract
from dermoscopy.runtime.errors import SourceError
from dermoscopy.runtime.params import Data

DATASET = "kmader/skin-cancer-mnist-ham10000"
DATASET_PAGE = f"https://www.kaggle.com/datasets/{DATASET}"
ARCHIVE = "skin-cancer-mnist-ham10000.zip"
MARKER = f"{ARCHIVE}.kaggle-partial"  # the client keeps it beside an archive it has not finished

# The client shows 5.20 GiB (5.58 GB) to download; half of it is the second copy of the images, not extracted.
ARCHIVE_BYTES = 5_600_000_000
EXTRACTED_BYTES = 2_900_000_000

# A download that fails for a passing reason is tried again after pauses that double.
RETRIES = 5
FIRST_PAUSE = 4.0  # seconds
LONGEST_PAUSE = 300.0  # seconds, also of one that Kaggle asks for
SILENCE = 120.0  # seconds without a byte before a connection is given up

OTHER_SOURCES = "or use data.source=directory with data.directory, or data.source=sample"
KEEPS = "what has been downloaded is kept"
TRANSIENT = (429, 500, 502, 503, 504)
ANSWERS = {
    403: f"this account has no access; sign in at {DATASET_PAGE}, accept what is asked there, then run again",
    404: f"Kaggle no longer has this dataset; see {DATASET_PAGE}, {OTHER_SOURCES}",
    429: f"too many requests; wait some minutes, then run again, {KEEPS}",
    500: f"it has a server error; run again later, {KEEPS}",
}


def fetch(data: Data, destination: Path, work: Path) -> None:
    """Fill `destination` with images/ISIC_*.jpg, each once, and labels.csv.

    The archive is fetched into `work`, where an interrupted download is resumed by the next call and a complete
    archive is used without asking Kaggle.

    Raises:
        SourceError: no room, credentials or connection; Kaggle refuses; the archive is damaged (it is then deleted)
            or is not the 10,015 labelled images of 7 classes.
    """
    del data  # Kaggle's client knows where from, and whose credentials
    archive = work / ARCHIVE
    try:
        work.mkdir(parents=True, exist_ok=True)
        needed, free, lack = _room(archive)
        if free < needed:
            raise SourceError(lack)
        if (work / MARKER).exists() or not zipfile.is_zipfile(archive):
            _download(archive)
        extract(archive, destination)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT) and work.is_dir():
            shutil.rmtree(destination)  # so that the room is counted as the next run will find it
            raise SourceError(f"{error.strerror}: {_room(archive)[2]}") from None
        problem = f"cannot read or write {error.filename or work}: {error.strerror}"
        raise SourceError(f"{problem}; fix this and run again, {KEEPS}") from None


def _room(archive: Path) -> tuple[int, int, str]:
    """Return the bytes that the rest of the archive and the images need, those that are free, and both in words."""
    held = archive.stat().st_size if archive.exists() else 0
    needed = max(ARCHIVE_BYTES - held, 0) + EXTRACTED_BYTES
    free = shutil.disk_usage(archive.parent).free
    words = (
        f"{archive.parent.resolve()} needs {needed / 1e9:.3g} GB for the archive and the images, "
        f"and {free / 1e9:.3g} GB are free: make room there and run again, {KEEPS}; {OTHER_SOURCES}"
    )
    return needed, free, words


def _download(archive: Path) -> None:
    """Fetch the archive, or the rest of it, in as many attempts as allowed; no message holds an address or a secret."""
    for name in ("VERBOSE", "VERBOSE_OUTPUT"):
        os.environ.pop(name, None)  # with these the client logs secrets and reads the whole archive into memory
    _watch_answers(SILENCE)
    import requests

    lost = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    for retry in count(1):
        try:
            _attempt(archive)
            return
        except requests.HTTPError as error:
            status = getattr(error.response, "status_code", 0)
            if status == 416:  # what is there is not a part of what Kaggle has
                raise _discard(archive) from None
            brief, full, transient = f"Kaggle answered {status}", _explain(status), status in TRANSIENT
            asked = _wait_asked_for(error.response) if transient else 0.0
        except lost as error:
            brief = f"the connection to Kaggle failed ({_cause(error, SILENCE)})"
            full, transient, asked = f"{brief}: check the network, then run again, {KEEPS}", True, 0.0
        except requests.RequestException as error:
            raise _nonsense(error) from None
        if not transient or retry > RETRIES:
            raise SourceError(full + (f" (attempts: {retry})" if retry > 1 else ""))
        wait = min(max(FIRST_PAUSE * 2 ** (retry - 1), asked), LONGEST_PAUSE)
        print(f"download: {brief}; trying again in {round(wait, 2):g} s ({retry} of {RETRIES})", file=sys.stderr)
        time.sleep(wait)


def _attempt(archive: Path) -> None:
    """Fetch the archive, or the rest of it, without the client's own retries, which would multiply ours."""
    try:
        # The client prints a page of help and signed addresses; its progress bar goes to stderr.
        with contextlib.redirect_stdout(io.StringIO()):
            client = _sign_in()
            client.download_file = functools.partial(type(client).download_file, client, max_retries=0)
            client.dataset_download_files(DATASET, path=str(archive.parent), quiet=not sys.stderr.isatty())
    except UnicodeEncodeError:
        raise SourceError(_how_to_sign_in("the Kaggle credentials hold characters that no key has")) from None
    except OSError:  # all faults of requests too, some of which are a ValueError as well
        raise
    except ValueError:  # the client has stored an answer of the wrong size, and would resume from it
        raise _discard(archive) from None
    except (TypeError, KeyError, AttributeError) as error:  # the client stumbles over JSON of another form
        raise _nonsense(error) from None


def _discard(archive: Path) -> SourceError:
    archive.unlink(missing_ok=True)
    return SourceError("what Kaggle sent is not the archive; it has been deleted: run again")


def _nonsense(error: Exception) -> SourceError:
    problem = f"Kaggle, or a proxy before it, sent an unexpected answer ({type(error).__name__})"
    return SourceError(f"{problem}: run again later, {KEEPS}")


def _sign_in() -> Any:
    """Return the client, signed in; its import tries that too, but hides why it could not."""
    try:
        import kaggle

        kaggle.api.authenticate()
    except (SystemExit, ValueError):  # ValueError: a token that no HTTP header can carry
        raise SourceError(_how_to_sign_in("no usable Kaggle credentials found")) from None
    return kaggle.api


def _watch_answers(silence: float) -> None:
    """Let each request end when its connection falls silent or its answer is an error.

    The client's first request would wait for ever, and an error page in the place of the rest could overwrite the part
    that is already here.
    """
    from requests import Response, adapters, sessions

    class Adapter(adapters.HTTPAdapter):
        def send(self, *args: Any, **settings: Any) -> Response:
            response = super().send(*args, **settings | {"timeout": silence})
            response.raise_for_status()
            return response

    sessions.HTTPAdapter = Adapter  # type: ignore[misc] # the client makes its sessions itself


def _wait_asked_for(response: Any) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or a date; 0 if there is none to be read."""
    from urllib3 import Retry
    from urllib3.exceptions import InvalidHeader

    try:
        return Retry().get_retry_after(response) or 0.0
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0


def _cause(error: Exception, silence: float) -> str:
    """Say in a few words why a connection failed; the error's own words hold a signed address."""
    from urllib3 import exceptions

    inner = error.args[0] if error.args else error
    match getattr(inner, "reason", inner):
        case exceptions.NameResolutionError():
            return "its name does not resolve"
        case exceptions.NewConnectionError(__cause__=OSError(strerror=str(problem))):
            return problem
        case exceptions.TimeoutError():
            return f"silent for {silence:g} s"
        case exceptions.ProtocolError():
            return "cut"
    return type(error).__name__


def _explain(status: int) -> str:
    """Say what an HTTP status means here and what to do."""
    if status == 401:
        return _how_to_sign_in("Kaggle does not accept the credentials (status 401)")
    return (
        f"Kaggle answered with status {status}: {ANSWERS.get(min(status, 500), f'see {DATASET_PAGE}, {OTHER_SOURCES}')}"
    )


def _how_to_sign_in(problem: str) -> str:
    """Name the ways to sign in; a token that is there comes before all of them, so it is the one at fault."""
    from kagglesdk import get_access_token_from_env

    token, place = get_access_token_from_env()
    if token:
        problem = f"Kaggle does not accept the token in {place} (mistyped, expired or revoked)"
    return (
        f"{problem}: make a token at https://www.kaggle.com/settings/api and set KAGGLE_API_TOKEN to it or save it as "
        "~/.kaggle/access_token, or save the key file as ~/.kaggle/kaggle.json, or set KAGGLE_USERNAME and KAGGLE_KEY; "
        f"{OTHER_SOURCES}"
    )
