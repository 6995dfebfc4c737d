"""Tables of the page for LaTeX, in which names of classes and groups, which are untrusted, are escaped."""

from pathlib import Path
from typing import Any

import pandas as pd

from dermoscopy.page.facts import Estimate, estimate
from dermoscopy.runtime.files import replacing
from dermoscopy.scoring.metrics import Metrics

HEAD = """% A tabular for \\input, in a table with your caption; the preamble needs:
% \\usepackage{booktabs} \\usepackage[T1]{fontenc}
% Letters that pdfLaTeX does not know need XeLaTeX or LuaLaTeX with a font that has them.
"""
NONE = "--"
METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "macro_auc": "macro AUC",
    "log_loss": "log loss",
    "ece": "expected calibration error",
    "log_loss_calibrated": "log loss, calibrated",
    "ece_calibrated": "expected calibration error, calibrated",
}
SCREENING = {
    "auc": "AUC, malignant or benign",
    "sensitivity_at_90_specificity": "sensitivity at 90 % specificity",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "specificity_at_90_sensitivity": "specificity at 90 % sensitivity",
    "specificity_at_95_sensitivity": "specificity at 95 % sensitivity",
}
OF_A_CLASS = {"recall": "sensitivity", "specificity": "specificity", "f1": "F1", "auc": "AUC"}


def write_tables(metrics: dict[str, Metrics], subgroups: list[dict[str, Any]], folder: Path) -> list[str]:
    """Write metrics, classes and, where there are any, subgroups, each a table in LaTeX, and return their names."""
    part = list(metrics)[-1]
    tables = {
        "metrics": metrics_table(metrics),
        "classes": classes_table(metrics[part]),
        "subgroups": subgroups_table(subgroups),
    }
    for name, table in tables.items():
        if table.empty:  # and that of an earlier run is of other subgroups
            (folder / f"{name}.tex").unlink(missing_ok=True)
            continue
        with replacing(folder / f"{name}.tex") as partial:
            partial.write_text(HEAD + as_latex(table), encoding="utf-8")
    return [name for name, table in tables.items() if not table.empty]


def metrics_table(metrics: dict[str, Metrics]) -> pd.DataFrame:
    """Return the metrics, by row, of each part, by column."""
    columns = {}
    for part, values in metrics.items():
        of_all = {label: with_interval(estimate(values, name)) for name, label in METRICS.items()}
        of_screening = {label: with_interval(estimate(values.screening, name)) for name, label in SCREENING.items()}
        columns[part] = {"images": str(values.support)} | of_all | of_screening
    table = pd.DataFrame(columns).rename_axis(index="metric")
    return table[(table != NONE).any(axis=1)]


def classes_table(shown: Metrics) -> pd.DataFrame:
    """Return the metrics, by column, of each class against the rest, by row."""
    rows = {
        name: {"images": str(values.support)}
        | {label: with_interval(estimate(values, key), 2) for key, label in OF_A_CLASS.items()}
        for name, values in shown.per_class.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(index="class")


def subgroups_table(subgroups: list[dict[str, Any]]) -> pd.DataFrame:
    """Return images and balanced accuracy of each subgroup."""
    rows = [
        [f"{row['variable'].replace('_', ' ')}: {row['group']}", row["images"], with_interval(row["estimate"])]
        for row in subgroups
    ]
    return pd.DataFrame(rows, columns=["group", "images", "balanced accuracy"]).set_index("group")


def with_interval(value: Estimate, digits: int = 3) -> str:
    """Return a number with its interval in brackets; a dash where there is none."""
    if value.value is None:
        return NONE
    limits = "" if value.low is None else f" ({value.low:.{digits}f}--{value.high:.{digits}f})"
    return f"{value.value:.{digits}f}{limits}"


def as_latex(table: pd.DataFrame) -> str:
    r"""Return a tabular, whose names are escaped.

    They stand in braces, for the \\\\ before a row would take a [ or a * for its own.
    """
    rows = table.reset_index()
    name = rows.columns[0]
    rows[name] = [" ".join(str(text).split()) for text in rows[name]]  # an empty line ends a paragraph
    style = rows.style.hide(axis="index").format("{{{}}}", subset=[name], escape="latex")
    text: str = style.to_latex(hrules=True, column_format="l" + "r" * len(table.columns))
    return text
