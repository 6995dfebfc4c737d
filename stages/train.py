"""Train the head on the features of the backbone, and predict validation and test images with it."""

import sys

from dermoscopy.data.tables import read_table, write_table
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.clinical import ClinicalFeatures, fit_encoder
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.model.image_only import image_only_predictions
from dermoscopy.model.labelled_images import class_shares, label_images, prediction_table
from dermoscopy.model.training import predict_views
from dermoscopy.model.training_log import train_and_log
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.params import Train
from dermoscopy.runtime.paths import HEAD, HEAD_INFO, IMAGE_ONLY, MANIFEST, PREDICTIONS, PREDICTIONS_TTA, SPLIT


def main(train: Train) -> None:
    features = FeatureReader()
    manifest, split = read_table(MANIFEST, "image_id", "label"), read_table(SPLIT, "image_id", "part")
    images, classes = label_images(manifest.merge(split, on="image_id", validate="1:1"), features)
    part = dict(iter(images.groupby("part")))
    clinical = fit_encoder(part["train"], train.clinical) if train.clinical else None
    inputs = ClinicalFeatures(features, images, clinical) if clinical else features

    head, fitted = train_and_log(inputs, part["train"], part["validation"], len(classes), train)
    held_out = images[images["part"] != "train"]
    probabilities = predict_views(head, inputs, held_out["row"].to_numpy())
    info = HeadInfo(
        classes=classes,
        prior=class_shares(part["train"]["label"], classes),
        class_weights=class_weights(part["train"]["target"], len(classes), train.class_weights).tolist(),
        backbone=features.info.backbone,
        augmentation=features.info.augmentation,
        clinical=clinical,
    )
    with replacing(HEAD) as path:
        head.save(path)
    with replacing(HEAD_INFO) as path:
        path.write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_table(prediction_table(held_out, classes, probabilities[:, 0]), PREDICTIONS)
    write_table(prediction_table(held_out, classes, probabilities.mean(axis=1)), PREDICTIONS_TTA)
    write_table(image_only_predictions(features, images, classes, train), IMAGE_ONLY)
    if not fitted.stopped_early:
        print(
            f"warning: train: training ended at the last allowed epoch ({train.epochs}), while the validation loss "
            "might still fall: raise train.epochs",
            file=sys.stderr,
        )
    print(f"train: {fitted.epochs} epochs on {len(part['train'])} images, {len(held_out)} images predicted")


if __name__ == "__main__":
    run_stage(main)
