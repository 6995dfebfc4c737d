"""Archives in the layout in which Kaggle has HAM10000, for the local server."""

import os
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dermoscopy.data.sources.archive import METADATA

# Each image is in two folders, of which one is written in lower case.
FOLDERS = ["HAM10000_images_part_1", "HAM10000_images_part_2", "ham10000_images_part_1", "ham10000_images_part_2"]
PIXEL_TABLES = ["hmnist_28_28_L.csv", "hmnist_28_28_RGB.csv", "hmnist_8_8_L.csv", "hmnist_8_8_RGB.csv"]
UPLOADED = datetime(2018, 9, 20, tzinfo=UTC).timestamp()


def write_archive(
    path: Path, labels: bytes, images: Mapping[str, bytes], first_part: int, folders: Sequence[str] = FOLDERS
) -> Path:
    """Write an archive: the label table, two folders of images, the same images again, and four short pixel tables.

    Args:
        path: the archive; it is returned.
        labels: the label table.
        images: the JPEG of each image_id, in the order of the archive.
        first_part: how many of them the first folder has.
        folders: the two folders, then their twins.
    """
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(METADATA, labels)
        for first, second in zip(folders[::2], folders[1::2], strict=True):
            for number, (name, jpeg) in enumerate(images.items()):
                archive.writestr(f"{first if number < first_part else second}/{name}.jpg", jpeg)
        for name in PIXEL_TABLES:
            archive.writestr(name, "pixel0000,label\n169,2\n")
    os.utime(path, (UPLOADED, UPLOADED))
    return path
