"""What is seen of a training: a bar, and the curves and metrics that DVCLive writes.

Imports Keras: call `start_keras` first.
"""

from functools import partial

import keras
import pandas as pd
from dvclive import Live
from dvclive.keras import DVCLiveCallback
from dvclive.utils import standardize_metric_name
from tqdm.keras import TqdmCallback

from dermoscopy.features.store import FeatureReader
from dermoscopy.model.fast_fit import Fitted
from dermoscopy.model.training import train_head
from dermoscopy.runtime.params import Train
from dermoscopy.runtime.paths import TRAINING_LOG
from dermoscopy.runtime.progress import progress


def train_and_log(
    features: FeatureReader, training: pd.DataFrame, validation: pd.DataFrame, classes: int, train: Train
) -> tuple[keras.Model, Fitted]:
    """Do and return what `train_head` does, whose arguments these are; show a bar, and write metrics/training/.

    The curves are of all epochs; metrics.json is of the one whose weights are kept, where DVCLive alone has the last.
    """
    bar = TqdmCallback(train.epochs, verbose=0, tqdm_class=partial(progress, "train", in_logs=False))
    with Live(str(TRAINING_LOG), save_dvc_exp=False, dvcyaml=None) as live:
        callbacks = [DVCLiveCallback(live=live), bar]
        head, fitted = train_head(features, training, validation, classes, train, callbacks)
        live.summary["step"] = fitted.kept
        for name, values in fitted.history.items():
            live.log_metric(standardize_metric_name(name, "dvclive.keras"), values[fitted.kept], plot=False)
    return head, fitted
