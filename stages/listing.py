"""List the files of the folder that data.directory names, so that DVC sees what the user changes in it.

DVC watches no folder that a param names. So this stage runs each time; it reads no file, and what depends on the list
runs again only where a name, a size or a time, in a storage a version, in it is another.
"""

import sys
from pathlib import Path

from dermoscopy.data.image_files import require_own_folder
from dermoscopy.data.listing import earlier_listing, write_listing
from dermoscopy.data.sources.directory import folder_of, list_files
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.errors import StorageError, one_line
from dermoscopy.runtime.params import Data
from dermoscopy.runtime.paths import LISTING


def main(data: Data) -> None:
    if data.source != "directory":
        write_listing([])
        print("listing: no folder of your own")
        return
    require_own_folder(data.directory or "")
    folder = folder_of(data)
    try:
        files, warnings = list_files(data)
    except StorageError as error:
        files = earlier_listing(folder)
        if not files:
            raise
        write_listing(files)
        print(
            f"warning: listing: {one_line(str(error))}; until then {LISTING} stays as it was, and stages that read no "
            "image can run",
            file=sys.stderr,
        )
        print(f"listing: as before, {len(files)} files")
        return
    for line in warnings:
        print(f"warning: listing: {one_line(line)}", file=sys.stderr)
    write_listing(files)
    tables = [Path(file.path).name for file in files if file.kind == "table"]
    print(f"listing: {len(files) - len(tables)} images in {folder}; tables: {', '.join(tables) or 'none'}")


if __name__ == "__main__":
    run_stage(main)
