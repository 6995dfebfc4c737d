"""Train the head on the features of the frozen backbone, and predict validation and test images with it."""

from pathlib import Path

import pandas as pd

from stages.common.errors import run
from stages.common.features import FeatureReader
from stages.common.files import replacing
from stages.common.heads import HEAD, HEAD_INFO, HeadInfo, save_head
from stages.common.keras_runtime import start_keras
from stages.common.params import load_params, require_unchanged
from stages.common.tables import MANIFEST, PREDICTIONS, PREDICTIONS_TTA, SPLIT, read_table, write_table
from stages.common.training import predict, tabulate, train_head

LOG = Path("metrics/training")


def main() -> None:
    train = load_params().train
    features = FeatureReader()
    images = read_table(MANIFEST, "image_id", "label")[["image_id", "label"]].merge(
        read_table(SPLIT, "image_id", "part"), on="image_id", validate="1:1"
    )
    images["row"] = features.rows(images["image_id"])
    classes = sorted(images["label"].unique())
    images["target"] = pd.Categorical(images["label"], categories=classes).codes

    keras = start_keras(train.seed)
    from dvclive import Live
    from dvclive.keras import DVCLiveCallback

    part = dict(iter(images.groupby("part")))
    with Live(str(LOG), save_dvc_exp=False, dvcyaml=None) as live:
        head, epochs = train_head(
            keras, features, part["train"], part["validation"], len(classes), train, [DVCLiveCallback(live=live)]
        )

    held_out = images[images["part"] != "train"]
    probabilities = predict(keras, head, features, held_out["row"].to_numpy())
    info = HeadInfo(classes=classes, backbone=features.info.backbone, augmentation=features.info.augmentation)
    with replacing(HEAD) as path:
        save_head(head, path)
    with replacing(HEAD_INFO) as path:
        path.write_text(info.model_dump_json(indent=2) + "\n", encoding="utf-8")
    write_table(tabulate(held_out, classes, probabilities[:, 0]), PREDICTIONS)
    write_table(tabulate(held_out, classes, probabilities.mean(axis=1)), PREDICTIONS_TTA)
    require_unchanged(train)
    print(f"train: {epochs} epochs on {len(part['train'])} images, {len(held_out)} images predicted")


if __name__ == "__main__":
    run(main)
