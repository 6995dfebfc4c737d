"""List the files of the folder that data.directory names, so that DVC sees what the user changes in it.

DVC watches no folder that a param names. So this stage runs each time; it reads no file, and what depends on the list
runs again only where a name, a size or a time in it is another.
"""

import sys
from pathlib import Path

from dermoscopy.data.image_files import require_own_folder
from dermoscopy.data.listing import earlier_listing, write_listing
from dermoscopy.data.sources.directory import list_files
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.errors import one_line
from dermoscopy.runtime.files import user_path
from dermoscopy.runtime.params import Data
from dermoscopy.runtime.paths import LISTING


def main(data: Data) -> None:
    if data.source != "directory":
        write_listing([])
        print("listing: no folder of your own")
        return
    folder = user_path(data.directory or "")
    require_own_folder(folder)
    if not folder.exists() and (files := earlier_listing(folder)):
        write_listing(files)
        print(
            f"warning: listing: {folder} is not there: what it held before is in {LISTING}, and stages that read no "
            "image can run",
            file=sys.stderr,
        )
        print(f"listing: as before, {len(files)} files")
        return
    files, warnings = list_files(data)
    for line in warnings:
        print(f"warning: listing: {one_line(line)}", file=sys.stderr)
    write_listing(files)
    tables = [Path(file.path).name for file in files if file.kind == "table"]
    print(f"listing: {len(files) - len(tables)} images in {folder}; tables: {', '.join(tables) or 'none'}")


if __name__ == "__main__":
    run_stage(main)
