"""Score the predictions: metrics/metrics.json, subgroups and gains in metrics/, and what the plots are drawn from."""

import sys

from dermoscopy.data.tables import read_table, write_table
from dermoscopy.model.head_info import read_head_info
from dermoscopy.runtime.commands import run_stage
from dermoscopy.runtime.params import Evaluate
from dermoscopy.runtime.paths import (
    CLINICAL_GAIN,
    CONFUSION_MATRIX,
    CONFUSION_MATRIX_PICTURE,
    MANIFEST,
    PRECISION_RECALL,
    RELIABILITY,
    ROC,
    SUBGROUPS,
    TRADE_OFF,
)
from dermoscopy.scoring.clinical_gain import read_image_only
from dermoscopy.scoring.confusion_matrix import draw_confusion_matrix
from dermoscopy.scoring.curves import precision_recall_curves, roc_curves
from dermoscopy.scoring.evaluation import evaluate_parts, summary, warnings_of
from dermoscopy.scoring.metrics import write_metrics
from dermoscopy.scoring.predictions import scored_table


def main(evaluate: Evaluate) -> None:
    predictions = read_table(scored_table(evaluate.tta), "image_id", "part", "label", "predicted")
    manifest = read_table(MANIFEST, "image_id", "lesion_id")
    evaluation = evaluate_parts(predictions, read_head_info(), manifest, evaluate, read_image_only(evaluate.tta))
    shown = evaluation.shown
    write_table(shown[["label", "predicted"]], CONFUSION_MATRIX)
    write_table(roc_curves(shown), ROC)
    write_table(precision_recall_curves(shown), PRECISION_RECALL)
    write_table(evaluation.reliability, RELIABILITY)
    write_table(evaluation.trade_off, TRADE_OFF)
    draw_confusion_matrix(shown, f"{shown['part'].iloc[0]} images", CONFUSION_MATRIX_PICTURE)
    write_table(evaluation.subgroups, SUBGROUPS)
    write_table(evaluation.gains, CLINICAL_GAIN)
    write_metrics(evaluation.metrics)
    for line in warnings_of(evaluation):
        print(f"warning: {line}", file=sys.stderr)
    for line in summary(evaluation.metrics):
        print(f"evaluate: {line}")


if __name__ == "__main__":
    run_stage(main)
