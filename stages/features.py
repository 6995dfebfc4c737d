"""Run the frozen backbone once over every view of every image, and keep its output, the features."""

from functools import partial

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.tables import read_table
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.chunks import KEEP_VIEWS, ViewChunks, chunk_folder, prune
from dermoscopy.features.engines.choice import choose_engine, engine_identity, load_engine
from dermoscopy.features.extraction import compute_missing
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.recipe import image_keys, view_key
from dermoscopy.features.store import FeaturesInfo, write_features
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.params import Augmentation, Features
from dermoscopy.runtime.paths import MANIFEST


def main(augmentation: Augmentation, features: Features) -> None:
    configure_image_libraries()
    manifest = read_table(MANIFEST, "image_id", "path", "sha256")
    folder_of_backbone = final_backbone()
    backbone = read_backbone_info(folder_of_backbone)
    engine = choose_engine(features.engine)
    identity = engine_identity(engine)
    keys = [view_key(backbone.fingerprint, identity, augmentation, view) for view in range(augmentation.views + 1)]
    images = image_keys(manifest)
    info = FeaturesInfo(
        backbone=backbone.fingerprint,
        engine=identity,
        augmentation=augmentation,
        dim=backbone.dim,
        images=len(manifest),
        keys=keys,
        checksum="",
    )
    with chunk_folder() as folder:
        chunks = [ViewChunks(folder, key, images, (backbone.dim,)) for key in keys]
        load = partial(load_engine, engine, folder_of_backbone)
        compute_missing(manifest, chunks, augmentation, backbone.image_size, load)
        write_features(manifest, chunks, info)
        prune(folder, keep=max(KEEP_VIEWS, len(keys)))
    print(f"features: {info.dim} numbers for {info.images} images x {info.views} views, by {info.engine}")


if __name__ == "__main__":
    run_stage(main)
