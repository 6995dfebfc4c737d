"""Assign every image to train, validation or test: stratified by label, no patient, lesion or file in two parts."""

import pandas as pd

from dermoscopy.data.groups import unit_of
from dermoscopy.data.split import assign_parts
from dermoscopy.data.tables import PARTS, read_table, write_table
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.params import Split
from dermoscopy.runtime.paths import MANIFEST, SPLIT


def main(split: Split) -> None:
    manifest = read_table(MANIFEST, "image_id", "label", "lesion_id", "sha256")
    parts = assign_parts(manifest, split)
    write_table(pd.DataFrame({"image_id": manifest["image_id"], "part": parts}), SPLIT)
    counts = ", ".join(f"{(parts == part).sum()} {part}" for part in PARTS)
    print(f"split: {counts} images, by {unit_of(manifest, split)}")


if __name__ == "__main__":
    run_stage(main)
