"""Train the head on the features of the frozen backbone, and predict validation and test images with it."""

from dermoscopy.data.tables import read_table, write_table
from dermoscopy.features.store import FeatureReader
from dermoscopy.model.class_weights import class_weights
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.model.labelled_images import class_shares, label_images, prediction_table
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.files import replacing
from dermoscopy.runtime.keras_start import start_keras
from dermoscopy.runtime.params import Train
from dermoscopy.runtime.paths import HEAD, HEAD_INFO, MANIFEST, PREDICTIONS, PREDICTIONS_TTA, SPLIT, TRAINING_LOG


def main(train: Train) -> None:
    features = FeatureReader()
    manifest, split = read_table(MANIFEST, "image_id", "label"), read_table(SPLIT, "image_id", "part")
    images = manifest[["image_id", "label"]].merge(split, on="image_id", validate="1:1")
    images, classes = label_images(images, features)

    start_keras(train.seed)
    from dvclive import Live
    from dvclive.keras import DVCLiveCallback

    from dermoscopy.model.head import save_head
    from dermoscopy.model.training import predict_views, train_head

    part = dict(iter(images.groupby("part")))
    with Live(str(TRAINING_LOG), save_dvc_exp=False, dvcyaml=None) as live:
        head, epochs = train_head(
            features, part["train"], part["validation"], len(classes), train, [DVCLiveCallback(live=live)]
        )

    held_out = images[images["part"] != "train"]
    probabilities = predict_views(head, features, held_out["row"].to_numpy())
    info = HeadInfo(
        classes=classes,
        prior=class_shares(part["train"]["label"], classes),
        class_weights=class_weights(part["train"]["target"], len(classes), train.class_weights).tolist(),
        backbone=features.info.backbone,
        augmentation=features.info.augmentation,
    )
    with replacing(HEAD) as path:
        save_head(head, path)
    with replacing(HEAD_INFO) as path:
        path.write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_table(prediction_table(held_out, classes, probabilities[:, 0]), PREDICTIONS)
    write_table(prediction_table(held_out, classes, probabilities.mean(axis=1)), PREDICTIONS_TTA)
    print(f"train: {epochs} epochs on {len(part['train'])} images, {len(held_out)} images predicted")


if __name__ == "__main__":
    run_stage(main)
