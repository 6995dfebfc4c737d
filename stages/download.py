"""Fetch the raw data: fill data/raw from Kaggle, or with drawn images. A folder of the user's is read where it is."""

import shutil
from pathlib import Path

from dermoscopy.data.image_files import require_own_folder
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.sources import kaggle, sample
from dermoscopy.data.sources.archive import is_whole
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Data
from dermoscopy.runtime.paths import DOWNLOADS, RAW

FETCH = {"kaggle": kaggle.fetch, "sample": sample.fetch}
IN_PLACE = "The images are read in the folder that data.directory names.\n"
SET_ASIDE = DOWNLOADS / "kaggle"


def main(data: Data) -> None:
    configure_image_libraries()
    # What came from Kaggle is never fetched twice: DVC leaves data/raw in place (`persist` in dvc.yaml), and another
    # source sets it aside.
    if data.source == "kaggle":
        if not is_whole(RAW) and is_whole(SET_ASIDE):
            move(SET_ASIDE, RAW)
        if is_whole(RAW):
            shutil.rmtree(DOWNLOADS, ignore_errors=True)
            print(f"download: {RAW} is whole already")
            return

    if data.source == "directory":
        require_own_folder(data.directory or "")
    with replacing(RAW) as raw:
        raw.mkdir()
        if data.source == "directory":
            (raw / "README").write_text(IN_PLACE, encoding="utf-8")  # DVC warns of an empty folder
        else:
            FETCH[data.source](data, raw, DOWNLOADS)
        if data.source != "kaggle" and is_whole(RAW):
            move(RAW, SET_ASIDE)
    if data.source == "kaggle":
        shutil.rmtree(DOWNLOADS, ignore_errors=True)  # not before data/raw is there: the archive took long to fetch
    print(f"download: {'nothing to fetch' if data.source == 'directory' else f'{data.source} data are in {RAW}'}")


def move(folder: Path, target: Path) -> None:
    """Move a folder to `target`, replacing what is there."""
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)


if __name__ == "__main__":
    run_stage(main)
