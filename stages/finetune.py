"""Train the top layers of the backbone too, or, where finetune.epochs is 0, leave it frozen."""

from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.tables import read_table
from dermoscopy.features.engines.choice import choose_engine, keras_backend
from dermoscopy.features.finetuned import FinetuningInfo, write_finetuning
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Augmentation, Features, Finetune
from dermoscopy.runtime.paths import BACKBONE, FINETUNED, MANIFEST, SPLIT


def main(finetune: Finetune, augmentation: Augmentation, features: Features) -> None:
    with replacing(FINETUNED) as folder:
        folder.mkdir()
        if finetune.epochs == 0:
            write_finetuning(FinetuningInfo(), folder)
            print("finetune: nothing to do (finetune.epochs is 0): the backbone stays frozen")
            return
        configure_image_libraries()
        manifest = read_table(MANIFEST, "image_id", "path", "label", "lesion_id", "sha256")
        images = manifest.merge(read_table(SPLIT, "image_id", "part"), on="image_id", validate="1:1")
        start_keras(finetune.seed, keras_backend(choose_engine(features.engine)))
        from dermoscopy.model.tuned_backbone import finetune_backbone

        done = finetune_backbone(images, BACKBONE, folder, finetune, augmentation, features)
    best = f"epoch {done.kept} was best" if done.kept else "none was better than the frozen backbone, which is kept"
    print(f"finetune: {done.epochs} epochs of the {done.layers} layers above {done.cut or 'the image'}: {best}")


if __name__ == "__main__":
    run_stage(main)
