"""What is seen of a training: a bar, and the curves and metrics that DVCLive writes."""

import pandas as pd
from dvclive import Live

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.head import Head
from dermoscopy.model.training import Fitted, Metrics, train_head
from dermoscopy.runtime.params import Train
from dermoscopy.runtime.paths import TRAINING_LOG
from dermoscopy.runtime.progress import progress


def train_and_log(
    features: FeatureReader, training: pd.DataFrame, validation: pd.DataFrame, classes: int, train: Train
) -> tuple[Head, Fitted]:
    """Do and return what `train_head` does, whose arguments these are; show a bar, and write metrics/training/.

    The curves are of all epochs; metrics.json is of the one whose weights are kept, where DVCLive alone has the last.
    """
    with (
        Live(str(TRAINING_LOG), save_dvc_exp=False, dvcyaml=None) as live,
        progress("train", train.epochs, "epoch", in_logs=False) as bar,
    ):

        def log(metrics: Metrics) -> None:
            for name, value in metrics.items():
                live.log_metric(name, value)
            live.next_step()
            bar.set_postfix({"eval/loss": metrics["eval/loss"]}, refresh=False)
            bar.update()

        head, fitted = train_head(features, training, validation, classes, train, log)
        live.summary["step"] = fitted.kept
        for name, value in fitted.history[fitted.kept].items():
            live.log_metric(name, value, plot=False)
    return head, fitted
