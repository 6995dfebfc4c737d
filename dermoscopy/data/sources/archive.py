"""HAM10000 as Kaggle packs it: the archive is checked before anything of it is written, and each image taken once.

The archive is not trusted. A member is wanted if its file name is that of an image or of the label table; of its path
nothing else is used, and a member with any other name is ignored: other cases, other bytes, folders, pixel tables. A
wanted member that is a link or a device, that is out of all proportion, or of which there are two that differ, makes
the archive a different one than expected.
"""

import io
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pandas as pd
from tqdm import tqdm

from dermoscopy.runtime.errors import SourceError

METADATA = "HAM10000_metadata.csv"
# Tschandl, Rosendahl, Kittler 2018, doi:10.1038/sdata.2018.161; the ids have no gap
IMAGES, CLASSES, FIRST_ID = 10_015, 7, 24_306

LARGEST_LIST_BYTES = 10_000_000  # the list of members, which zipfile holds in memory; the dataset's has about 2 MB
LARGEST_IMAGE_BYTES = 10_000_000  # a photograph of the dataset has about 300 kB
LARGEST_TABLE_BYTES = 2_000_000  # the label table has 600 kB
LARGEST_HEADER_BYTES = 1_000  # the names of its columns, which pandas turns into two hundred times as much, have 50
LARGEST_TOTAL_BYTES = 6_000_000_000  # twice the dataset's
LARGEST_RATIO = 100  # of a member to its compressed form: photographs reach 1, the label table 10

# What zipfile raises for wrong bytes.
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError)


def extract(archive: Path, destination: Path) -> None:
    """Write images/ISIC_*.jpg and labels.csv into `destination`, an empty folder.

    Raises:
        SourceError: the archive is damaged (it is then deleted) or not the dataset.
    """
    try:
        with _Reader(io.FileIO(archive)) as file, zipfile.ZipFile(file) as bundle:
            members = _choose(bundle, archive)
            _check(bundle, members, archive)
            (destination / "images").mkdir()
            for name, member in tqdm(members.items(), "extracting", unit=" images", disable=None):
                path = destination / ("labels.csv" if name == METADATA else f"images/{name}")
                with bundle.open(member) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
    except DAMAGED as error:
        archive.unlink()
        raise SourceError(f"{archive} is damaged ({error}) and has been deleted: run again to fetch it anew") from None


def is_whole(folder: Path) -> bool:
    """Return whether `extract` has filled this folder, and all images and the label table are still there."""
    try:
        labelled = set(pd.read_csv(folder / "labels.csv", usecols=["image_id"], dtype=str)["image_id"])
        images = {path.stem for path in (folder / "images").glob("*.jpg") if path.stat().st_size}
    except (OSError, ValueError):
        return False
    return images == labelled == {f"ISIC_{number:07d}" for number in range(FIRST_ID, FIRST_ID + IMAGES)}


class _Reader(io.BufferedReader):
    """Refuses what zipfile would read at once, whatever its size: the list of members."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > LARGEST_LIST_BYTES:
            raise _refusal(Path(self.name), f"its list of files has {size / 1e6:.0f} MB")
        return super().read(size)


def _choose(bundle: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Return a member for each wanted file name."""
    chosen: dict[str, zipfile.ZipInfo] = {}
    for member in bundle.infolist():
        name = PurePosixPath(member.filename).name
        if not re.fullmatch(rf"ISIC_[0-9]+\.jpg|{re.escape(METADATA)}", name):
            continue
        # Bad offsets and bad BZIP2 or LZMA data would raise an OSError, as a full disk does; the dataset has neither.
        if not 0 <= member.header_offset < bundle.start_dir or member.compress_type > zipfile.ZIP_DEFLATED:
            raise zipfile.BadZipFile(f"no data for {name}")
        if member.is_dir() or stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refusal(archive, f"{name} is not a file but a folder, a link or a device")
        if member.file_size > (LARGEST_TABLE_BYTES if name == METADATA else LARGEST_IMAGE_BYTES):
            raise _refusal(archive, f"{name} has {member.file_size / 1e6:.0f} MB")
        if member.file_size > LARGEST_RATIO * member.compress_size:
            raise _refusal(archive, f"{name} grows from {member.compress_size} to {member.file_size} bytes")
        twin = chosen.setdefault(name, member)
        if (twin.file_size, twin.CRC) != (member.file_size, member.CRC):
            raise _refusal(archive, f"it holds two different files named {name}")
    total = sum(member.file_size for member in chosen.values())
    if total > LARGEST_TOTAL_BYTES:
        raise _refusal(archive, f"its images have {total / 1e9:.1f} GB")
    return chosen


def _check(bundle: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Path) -> None:
    """Raise a SourceError unless the members are the dataset: each image labelled, each label with its image."""
    try:
        with bundle.open(members[METADATA]) as source:
            content = source.read(LARGEST_TABLE_BYTES)  # without a size it would unpack everything
        if len(content.partition(b"\n")[0]) > LARGEST_HEADER_BYTES:
            raise ValueError("its first line does not end")
        table = pd.read_csv(io.BytesIO(content), usecols=["image_id", "dx"], dtype=str)
    except (KeyError, ValueError) as error:
        raise _refusal(archive, f"{METADATA} is missing or not such a table ({error})") from None
    images = {PurePosixPath(name).stem for name in members if name != METADATA}
    labelled, classes = set(table["image_id"]), table["dx"].nunique(dropna=False)
    if images != labelled or (len(table), len(images), classes) != (IMAGES, IMAGES, CLASSES):
        odd = ", ".join(sorted(map(str, images ^ labelled))[:3]) or "none"
        raise _refusal(
            archive,
            f"{IMAGES} labelled images of {CLASSES} classes are expected, and it has {len(images)} images and "
            f"{len(table)} labels of {classes} classes, {len(labelled - images)} labels without image, "
            f"{len(images - labelled)} images without label (such as: {odd})",
        )


def _refusal(archive: Path, found: str) -> SourceError:
    return SourceError(f"{archive} is not the expected dataset: {found}; delete it to fetch it anew")
