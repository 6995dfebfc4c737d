"""What a training leaves in metrics/training/: the curves of all epochs, and the metrics of the one that is kept."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermoscopy.model.training_log import train_and_log
from dermoscopy.runtime.paths import TRAINING_CURVES, TRAINING_LOG
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS


def test_the_metrics_are_those_of_the_kept_epoch_and_the_curves_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = pd.DataFrame({"row": np.arange(120), "target": np.arange(120) % 3})
    features = np.random.default_rng(3).normal(size=(120, 2, 6)).astype(np.float32)
    features[..., 0] += images["target"].to_numpy(np.float32)[:, None]
    reader = write_feature_folder(tmp_path / "features", features)
    # with such a learning rate the loss soon gets worse
    train = PARAMS.train.model_copy(update={"learning_rate": 1.0, "batch_size": 30, "epochs": 60, "patience": 3})
    _, fitted = train_and_log(reader, images[:90], images[90:], 3, train)

    losses = [values["eval/loss"] for values in fitted.history]
    metrics = json.loads((TRAINING_LOG / "metrics.json").read_text())
    assert fitted.kept == metrics["step"] == fitted.epochs - 1 - 3
    for part in ("train", "eval"):
        for name in ("loss", "accuracy"):
            curve = pd.read_csv(TRAINING_CURVES / part / f"{name}.tsv", sep="\t")
            assert list(curve["step"]) == list(range(fitted.epochs))
            assert metrics[part][name] == pytest.approx(curve[name][fitted.kept], rel=1e-12)
            assert metrics[part].keys() == {"loss", "accuracy"}
    assert metrics["eval"]["loss"] == min(losses) < losses[-1]
