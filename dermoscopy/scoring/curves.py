"""The curves of a prediction table: ROC, and precision over recall, each class against the rest."""

import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from dermoscopy.scoring.predictions import class_names


def roc_curves(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `label, false_positive_rate, true_positive_rate`: one curve a class, that class against the rest.

    Straight lines from row to row draw it, and enclose the AUC: each corner of the staircase is a row, and where images
    of both kinds have one probability the line is slanted, for they count as half right.
    """
    curves = []
    for name in class_names(predictions):
        positive = predictions["label"] == name
        if 0 < positive.sum() < len(positive):
            false_rate, true_rate, _ = roc_curve(positive, predictions[f"p_{name}"])
            curves.append(
                pd.DataFrame({"label": name, "false_positive_rate": false_rate, "true_positive_rate": true_rate})
            )
    return pd.concat(curves, ignore_index=True)


def precision_recall_curves(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return `label, recall, precision`: one curve a class, that class against the rest, by falling recall.

    From row to row it is drawn as a step, first along recall, then along precision (step-after, steps-post), which
    encloses the average precision: between two recalls no straight line is right (Davis and Goadrich 2006, The
    Relationship Between Precision-Recall and ROC Curves).
    """
    curves = []
    for name in class_names(predictions):
        positive = predictions["label"] == name
        if positive.any():
            precision, recall, _ = precision_recall_curve(positive, predictions[f"p_{name}"], drop_intermediate=True)
            curves.append(pd.DataFrame({"label": name, "recall": recall, "precision": precision}))
    return pd.concat(curves, ignore_index=True)
