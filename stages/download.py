"""Bring the raw data in reach: fill data/raw from the source that data.source names.

data/raw holds `labels.csv`, the label table as it came, and either `images/` or, for a folder that is read in place,
`files.csv` with one row an image: `path` (absolute), `bytes`, `modified` (nanoseconds since 1970).
"""

import shutil
from pathlib import Path

from stages.common.errors import run
from stages.common.files import replacing
from stages.common.params import load_params, require_unchanged
from stages.sources import directory, kaggle, sample

RAW = Path("data/raw")
WORK = Path("data/.download")
FETCH = {"kaggle": kaggle.fetch, "directory": directory.fetch, "sample": sample.fetch}


def main() -> None:
    data = load_params().data
    with replacing(RAW) as raw:
        raw.mkdir()
        FETCH[data.source](data, raw, WORK)
    require_unchanged(data)
    if not data.keep_archive:
        shutil.rmtree(WORK, ignore_errors=True)  # not before data/raw stands: the archive is dear
    print(f"download: {data.source} data are in {RAW}")


if __name__ == "__main__":
    run(main)
