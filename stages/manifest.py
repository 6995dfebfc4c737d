"""Build data/manifest.csv: one checked row an image, with its label, lesion, size and content hash."""

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.manifest import check_data, count_classes, describe, summarize
from dermoscopy.data.tables import write_json, write_table
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.params import Data
from dermoscopy.runtime.paths import CLASS_DISTRIBUTION, MANIFEST, REJECTED, STATISTICS


def main(data: Data) -> None:
    configure_image_libraries()
    checked = check_data(data)
    write_table(checked.rejected, REJECTED)
    write_table(count_classes(checked.manifest), CLASS_DISTRIBUTION)
    write_json(summarize(checked), STATISTICS)
    write_table(checked.manifest, MANIFEST)
    for line in describe(checked):
        print(f"manifest: {line}")


if __name__ == "__main__":
    run_stage(main)
