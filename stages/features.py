"""Run the backbone once over every view of every image, and keep its output, the features."""

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.tables import read_table
from dermoscopy.features.computation import compute_features
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.params import Augmentation, Features
from dermoscopy.runtime.paths import FEATURES, MANIFEST


def main(augmentation: Augmentation, features: Features) -> None:
    configure_image_libraries()
    manifest = read_table(MANIFEST, "image_id", "path", "sha256")
    info = compute_features(manifest, final_backbone(), FEATURES, augmentation, features)
    print(f"features: {info.dim} numbers for {info.images} images x {info.views} views, by {info.engine}")


if __name__ == "__main__":
    run_stage(main)
