"""The confusion matrix as a picture."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from dermoscopy.runtime.files import replacing
from dermoscopy.scoring.predictions import class_names


def draw_confusion_matrix(predictions: pd.DataFrame, title: str, path: Path) -> None:
    """Draw counts and, as colour and in brackets, percentages of each row (actual class)."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    classes = class_names(predictions)
    counts = confusion_matrix(predictions["label"], predictions["predicted"], labels=classes)
    percentages: NDArray[np.float64] = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.75 * len(classes)
    figure, axes = plt.subplots(figsize=(size + 1, size), layout="constrained")
    display = ConfusionMatrixDisplay(percentages, display_labels=classes)
    display.plot(ax=axes, cmap="Blues", im_kw={"vmin": 0, "vmax": 100}, colorbar=False)
    for text, count, percentage in zip(display.text_.flat, counts.flat, percentages.flat, strict=True):
        text.set_text(f"{count}\n{percentage:.0f} %")
    figure.colorbar(display.im_, ax=axes, shrink=0.8, label="% of the actual class")
    axes.set(title=f"Confusion matrix, {len(predictions)} {title}", xlabel="predicted class", ylabel="actual class")
    with replacing(path) as partial:
        # without the software version the same numbers give the same bytes
        figure.savefig(partial, dpi=110, metadata={"Software": None})
    plt.close(figure)
