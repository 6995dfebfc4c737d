"""HAM10000 from Kaggle: fetched with Kaggle's own client, checked, each image kept once."""

import contextlib
import io
import os
import re
import shutil
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from tqdm import tqdm

from stages.common.errors import SourceError
from stages.common.params import Data

DATASET = "kmader/skin-cancer-mnist-ham10000"
PAGE = f"https://www.kaggle.com/datasets/{DATASET}"
ARCHIVE = "skin-cancer-mnist-ham10000.zip"
MARKER = f"{ARCHIVE}.kaggle-partial"  # the client keeps it beside an archive it has not finished
METADATA = "HAM10000_metadata.csv"

IMAGES, CLASSES = 10_015, 7  # Tschandl, Rosendahl, Kittler 2018, doi:10.1038/sdata.2018.161
# The client shows 5.20 GiB (5.58 GB) to download; half of it is the second copy of the images, not extracted.
ARCHIVE_BYTES = 5_600_000_000
EXTRACTED_BYTES = 2_900_000_000
LARGEST_MEMBER_BYTES = 50_000_000  # a photograph of the dataset has about 300 kB
SILENCE_SECONDS = 120

OTHER_SOURCES = "or use data.source=directory with data.directory, or data.source=sample"
KEEPS = "what has been downloaded is kept"
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError)  # what zipfile raises for wrong bytes
ANSWERS = {
    403: f"this account may not have the dataset; sign in at {PAGE}, accept what is asked there, then run again",
    404: f"the dataset is not there; see {PAGE}, {OTHER_SOURCES}",
    429: f"too many requests; wait some minutes, then run again, {KEEPS}",
    500: f"it is out of order; run again later, {KEEPS}",
}


def fetch(data: Data, destination: Path, work: Path) -> None:
    """Fill `destination` with images/ISIC_*.jpg, each once, and labels.csv.

    The archive is fetched into `work`, where an interrupted download is resumed by the next call and a complete
    archive is used without asking Kaggle.

    Raises:
        SourceError: no room, credentials or connection; Kaggle refuses; the archive is damaged (it is then deleted)
            or is anything else than the 10,015 labelled images of 7 classes.
    """
    del data
    archive = work / ARCHIVE
    try:
        work.mkdir(parents=True, exist_ok=True)
        _check_room(archive)
        if (work / MARKER).exists() or not zipfile.is_zipfile(archive):
            _download(archive)
        _extract(archive, destination)
    except OSError as error:
        raise SourceError(f"cannot write {error.filename or work}: {error.strerror}; mend this and run again") from None


def _check_room(archive: Path) -> None:
    held = archive.stat().st_size if archive.exists() else 0
    needed = max(ARCHIVE_BYTES - held, 0) + EXTRACTED_BYTES
    free = shutil.disk_usage(archive.parent).free
    if free < needed:
        raise SourceError(
            f"{archive.parent.resolve()} needs {needed / 1e9:.1f} GB for the archive and the images, "
            f"and {free / 1e9:.1f} GB are free: make room there, {OTHER_SOURCES}"
        )


def _download(archive: Path) -> None:
    """Fetch the archive, or the rest of it, with the client's own retries; no message holds an address or a secret."""
    for name in ("VERBOSE", "VERBOSE_OUTPUT"):
        os.environ.pop(name, None)  # with these the client logs secrets and reads the whole archive into memory
    _limit_silence()
    import requests

    try:
        # The client prints a page of help and signed addresses; its progress bar goes to stderr.
        with contextlib.redirect_stdout(io.StringIO()):
            _sign_in().dataset_download_files(DATASET, path=str(archive.parent), quiet=not sys.stderr.isatty())
    except requests.HTTPError as error:
        raise SourceError(_explain(getattr(error.response, "status_code", 0))) from None
    except requests.RequestException as error:
        problem = f"no connection to Kaggle ({type(error).__name__}): check the network, then run again, {KEEPS}"
        raise SourceError(problem) from None
    except OSError as error:
        problem = f"cannot write to {archive.parent} or read ~/.kaggle: {error.strerror}"
        raise SourceError(f"{problem}; mend this and run again, {KEEPS}") from None
    except ValueError:
        # The client has stored an answer of the wrong size, such as an error page, and would resume from it.
        archive.unlink(missing_ok=True)
        raise SourceError("Kaggle sent something else than the archive; it has been deleted: run again") from None


def _sign_in() -> Any:
    """Return the client, signed in; its import tries that too, but hides why it could not."""
    try:
        import kaggle

        kaggle.api.authenticate()
    except (SystemExit, ValueError):  # ValueError: a token that no HTTP header can carry
        raise SourceError(_how_to_sign_in("no usable Kaggle credentials found")) from None
    return kaggle.api


def _limit_silence() -> None:
    """Let every request end when its connection falls silent: the client's first one would wait for ever."""
    from requests import adapters, sessions

    class Adapter(adapters.HTTPAdapter):
        def send(self, *args: Any, **settings: Any) -> Any:
            return super().send(*args, **settings | {"timeout": settings.get("timeout") or SILENCE_SECONDS})

    sessions.HTTPAdapter = Adapter  # type: ignore[misc]


def _explain(status: int) -> str:
    """Say what an HTTP status means here and what to do."""
    if status == 401:
        return _how_to_sign_in("Kaggle does not accept the credentials (status 401)")
    return f"Kaggle answered with status {status}: {ANSWERS.get(min(status, 500), f'see {PAGE}, {OTHER_SOURCES}')}"


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


def _extract(archive: Path, destination: Path) -> None:
    """Check what the archive lists, then write the images and labels.csv; a damaged archive is deleted."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = _choose(bundle)
            _check(bundle, members)
            (destination / "images").mkdir()
            for name, member in tqdm(members.items(), "extracting", unit=" images", disable=None):
                path = destination / ("labels.csv" if name == METADATA else f"images/{name}")
                with bundle.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except DAMAGED as error:
        archive.unlink()
        raise SourceError(f"{archive} is damaged ({error}) and has been deleted: run again to fetch it anew") from None


def _choose(bundle: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return a member for each wanted file name; nothing else of a member's path is used, so no path is trusted."""
    chosen: dict[str, zipfile.ZipInfo] = {}
    for member in bundle.infolist():
        name = PurePosixPath(member.filename).name
        if not re.fullmatch(rf"ISIC_[0-9]+\.jpg|{re.escape(METADATA)}", name):
            continue
        # Bad offsets and bad BZIP2 or LZMA data would raise an OSError, as a full disk does; the dataset has neither.
        if not 0 <= member.header_offset < bundle.start_dir or member.compress_type > zipfile.ZIP_DEFLATED:
            raise zipfile.BadZipFile(f"no data for {name}")
        if member.file_size > LARGEST_MEMBER_BYTES:
            raise _refusal(bundle, f"{name} has {member.file_size / 1e6:.0f} MB")
        twin = chosen.setdefault(name, member)
        if (twin.file_size, twin.CRC) != (member.file_size, member.CRC):
            raise _refusal(bundle, f"it holds two different files named {name}")
    return chosen


def _check(bundle: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> None:
    """Raise a SourceError unless the members are the dataset: each image labelled, each label with its image."""
    try:
        table = pd.read_csv(io.BytesIO(bundle.read(members[METADATA])), usecols=["image_id", "dx"], dtype=str)
    except (KeyError, ValueError) as error:
        raise _refusal(bundle, f"{METADATA} is missing or no such table ({error})") from None
    images = {PurePosixPath(name).stem for name in members if name != METADATA}
    labelled, classes = set(table["image_id"]), table["dx"].nunique(dropna=False)
    if images != labelled or (len(table), len(images), classes) != (IMAGES, IMAGES, CLASSES):
        odd = ", ".join(sorted(map(str, images ^ labelled))[:3]) or "none"
        raise _refusal(
            bundle,
            f"expected are {IMAGES} labelled images of {CLASSES} classes, found {len(images)} images and {len(table)} "
            f"labels of {classes} classes, {len(labelled - images)} labels without image, "
            f"{len(images - labelled)} images without label (such as: {odd})",
        )


def _refusal(bundle: zipfile.ZipFile, found: str) -> SourceError:
    return SourceError(f"{bundle.filename} is not the expected dataset: {found}; delete it to fetch it anew")
