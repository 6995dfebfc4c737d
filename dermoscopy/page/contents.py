"""What the report shows: everything that the templates are filled with, read from files of earlier stages."""

import os
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dermoscopy.data.diagnoses import long_name
from dermoscopy.data.groups import known_unit, unit_of
from dermoscopy.data.listing import read_listing
from dermoscopy.data.storage import is_remote
from dermoscopy.data.tables import read_json, read_table
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone, read_finetuning
from dermoscopy.model.activation_maps import clinical_shifts
from dermoscopy.model.head import load_head
from dermoscopy.page.charts import (
    Chart,
    class_styles,
    overview_charts,
    precision_recall_chart,
    reliability_chart,
    roc_chart,
    trade_off_chart,
    training_chart,
)
from dermoscopy.page.facts import Estimate, count_parts, data_version, diagnosed_by, run_identity
from dermoscopy.page.gallery import choose_examples, draw_examples, left_out, without_missing
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import Data, Params, Train, load_params
from dermoscopy.runtime.paths import (
    CLINICAL_GAIN,
    CONFUSION_MATRIX,
    FINETUNED,
    MANIFEST,
    PRECISION_RECALL,
    RELIABILITY,
    ROC,
    SPLIT,
    STATISTICS,
    SUBGROUPS,
    TRADE_OFF,
    TRAINING_CURVES,
)
from dermoscopy.scoring.intervals import share_interval
from dermoscopy.scoring.metrics import Metrics, read_metrics
from dermoscopy.scoring.predictions import read_scored
from dermoscopy.scoring.subgroups import FEW

DEFAULTS = Path(__file__).with_name("defaults.yaml")  # params.yaml as the project has it


def read_contents(params: Params) -> dict[str, Any]:
    """Return what the templates need, by name; a PipelineError if a file of an earlier stage is missing or damaged."""
    manifest, split = read_table(MANIFEST), read_table(SPLIT)
    metrics, backbone = read_metrics(), read_backbone_info(final_backbone())
    part = list(metrics)[-1]
    predictions = read_scored(params.evaluate.tta, params.evaluate.prior_exponent)
    statistics = {"dataset": None, **read_json(STATISTICS)}
    chosen = choose_examples(predictions[predictions["part"] == part], params.report.gallery)
    here, missing = without_missing(chosen, manifest)
    version = data_version(manifest)
    return {
        "params": params.model_dump(),
        "changed": changed_params(params),
        "backbone": backbone,
        "weights": Path(params.backbone.weights).name,
        "metrics": metrics,
        "part": part,
        "statistics": statistics,
        "data_name": data_name(statistics["dataset"], params.data),
        "newest_file": newest_file(params.data),
        # that of `dvc exp run`; one that DVC restores has the page of its own run
        "experiment": os.environ.get("DVC_EXP_NAME"),
        "counts": count_parts(manifest, split),
        "split_by": unit_of(manifest, params.split),
        "known_unit": known_unit(manifest),
        "diagnosed_by": diagnosed_by(manifest),
        "subgroups": read_subgroups(part),
        "version": version,
        # data and weights are known by their content, wherever they lie; what the page shows changes no result
        "run": run_identity(
            version,
            backbone.fingerprint,
            params.model_dump(exclude={"data": True, "report": True, "backbone": {"weights"}}),
            metrics,
        ),
        **describe_classes(metrics[part]),
        **describe_training(params.train),
        "tuning": describe_tuning(),
        **describe_curves(metrics[part]),
        **describe_trade_off(params.evaluate.prior_exponent),
        "clinical": describe_clinical(),
        "few": FEW,
        **describe_gains(),
        "left_out": left_out(chosen, missing),
        "left_out_kinds": set(zip(missing["label"], missing["kind"], strict=True)),
        "examples": draw_examples(here, manifest),
    }


def data_name(dataset: str | None, data: Data) -> str:
    """Return what the images are: a public dataset, drawn ones, or those of a folder, by the last part of its name."""
    if data.source == "sample":
        return "drawn images"
    return dataset or PurePosixPath(data.directory or "").name or "dermoscopic images"


def newest_file(data: Data) -> str | None:
    """Return the day, in UTC, on which a file of the user's folder last changed; None of other data.

    The files of a storage and of Kaggle have no time that is the same wherever they are read.
    """
    if data.source != "directory" or is_remote(data.directory or ""):
        return None
    times = [file.modified for file in read_listing()]
    return datetime.fromtimestamp(max(times) // 10**9, UTC).date().isoformat() if times else None


def changed_params(params: Params) -> dict[str, Any]:
    """Return the default of each param that has another value here, by its name, such as `train.dropout`."""
    defaults, here = load_params(DEFAULTS).model_dump(), params.model_dump()
    return {
        f"{section}.{key}": default
        for section, values in defaults.items()
        for key, default in values.items()
        if here[section][key] != default
    }


def read_numbers(path: Path) -> pd.DataFrame:
    """Return a table whose columns are numbers, but for `label` and `probabilities`."""
    table = read_table(path)
    return table.astype({column: float for column in table.columns if column not in ("label", "probabilities")})


def read_subgroups(part: str) -> list[dict[str, Any]]:
    """Return `variable, group, images, few, lesions, estimate, note` of each subgroup of a part, in its order."""
    table = read_table(SUBGROUPS)
    rows = _rows(table[table["part"] == part])
    return [row | {"estimate": row_estimate(row, "balanced_accuracy"), "few": int(row["images"]) < FEW} for row in rows]


def row_estimate(row: dict[str, Any], name: str) -> Estimate:
    """Return a number of a row of text, with the limits `low` and `high`; each is None where the row has nothing."""
    value, low, high = (float(row[key]) if row[key] else None for key in (name, "low", "high"))
    return Estimate(value, low, high, reason="undefined here")


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.to_dict("records")  # type: ignore[return-value] # str keys


def describe_classes(shown: Metrics) -> dict[str, Any]:
    """Return the classes, whether one is a code, those that occur, the commonest and its share of a part's images."""
    support = {name: values.support for name, values in shown.per_class.items()}
    commonest = max(support, key=lambda name: support[name])
    return {
        "classes": list(support),
        "coded": any(long_name(name) != name for name in support),
        "present": sum(count > 0 for count in support.values()),
        "commonest": commonest,
        "majority": support[commonest] / shown.support,
    }


def describe_training(train: Train) -> dict[str, Any]:
    """Return what `describe_log` returns of the head's training, and whether it ended at its limit, before patience ran
    out."""
    log = describe_log(TRAINING_CURVES, 1, "run dvc repro train")
    return log | {"at_limit": log["epochs"] == train.epochs and log["epochs"] - log["best"] < train.patience}


def describe_tuning() -> dict[str, Any] | None:
    """Return what was done to the backbone, and what `describe_log` returns of it; None where it stayed frozen."""
    done = read_finetuning()
    if not done.epochs:
        return None
    log = describe_log(FINETUNED / "log/plots/metrics", 0, "run dvc repro finetune")
    return log | {"epochs": done.epochs, "cut": done.cut, "layers": done.layers}


def describe_log(folder: Path, first: int, remedy: str) -> dict[str, Any]:
    """Return the curves that DVCLive logged, how many epochs, and the one whose weights were kept, with its values.

    The arguments are those of `read_log`.
    """
    curves = read_log(folder, first, remedy)
    kept = int(curves["eval", "loss"]["loss"].argmin())
    best = int(curves["eval", "loss"]["step"].iloc[kept])
    return {
        "epochs": len(curves["eval", "loss"]),
        "best": best,
        "best_loss": curves["eval", "loss"]["loss"].iloc[kept],
        "best_accuracy": curves["eval", "accuracy"]["accuracy"].iloc[kept],
        "loss_chart": training_chart(curves["train", "loss"], curves["eval", "loss"], "loss", best),
        "accuracy_chart": training_chart(curves["train", "accuracy"], curves["eval", "accuracy"], "accuracy", best),
    }


def read_log(folder: Path, first: int, remedy: str) -> dict[tuple[str, str], pd.DataFrame]:
    """Return the curves that DVCLive logged, by (train | eval, loss | accuracy): `step` and the value.

    Args:
        folder: of the curves.
        first: the number of the epoch of its step 0.
        remedy: what to do if they cannot be read.
    """
    curves = {}
    for part in ("train", "eval"):
        for name in ("loss", "accuracy"):
            path = folder / part / f"{name}.tsv"
            try:
                curves[part, name] = pd.read_csv(path, sep="\t").assign(step=lambda table: table["step"] + first)
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{path} cannot be read ({error}): {remedy}") from None
    return curves


class ClassCurves(NamedTuple):
    """The curves of a class; no ROC where all images are of it."""

    roc: Chart | None
    precision_recall: Chart


def describe_curves(shown: Metrics) -> dict[str, Any]:
    """Return confusion matrix, curves and reliability of a part from plots/."""
    classes = list(shown.per_class)
    labels = read_table(CONFUSION_MATRIX)
    confusion = pd.crosstab(labels["label"], labels["predicted"])
    roc = curves_by_class(ROC)
    precision_recall = curves_by_class(PRECISION_RECALL)
    styles = class_styles(classes)
    roc_overview, precision_recall_overview = overview_charts(roc, precision_recall, styles)
    reliability = read_reliability()
    return {
        "confusion": confusion.reindex(index=classes, columns=classes, fill_value=0),
        "curves": {
            label: ClassCurves(
                roc_chart(roc[label]) if label in roc else None,
                precision_recall_chart(curve, shown.per_class[label].support / shown.support),
            )
            for label, curve in precision_recall.items()
        },
        "roc_overview": roc_overview,
        "precision_recall_overview": precision_recall_overview,
        "class_styles": styles,
        "reliability_chart": reliability_chart(reliability),
        "reliability": reliability.to_dict("records"),
        "temperature": shown.temperature,
    }


def curves_by_class(path: Path) -> dict[str, pd.DataFrame]:
    """Return the curve of each class of a table of them."""
    return {str(label): curve for label, curve in read_numbers(path).groupby("label")}


def read_reliability() -> pd.DataFrame:
    """Return `confidence, accuracy, images, probabilities`, with the 95 % interval of the accuracy, `low, high`."""
    table = read_numbers(RELIABILITY)
    limits = [share_interval(*row) for row in table[["accuracy", "images"]].itertuples(index=False)]
    return table.assign(low=[low for low, _ in limits], high=[high for _, high in limits])


def describe_clinical() -> dict[str, dict[str, float]]:
    """Return what each clinical value adds to the logit of each class, by value and class; {} where there is none."""
    head, info = load_head()
    if info.clinical is None:
        return {}
    shifts = clinical_shifts(head, info.clinical).set_axis(info.classes, axis="columns")
    return {str(name): {str(label): float(value) for label, value in row.items()} for name, row in shifts.iterrows()}


def describe_gains() -> dict[str, Any]:
    """Return what clinical data add to balanced accuracy, and which subgroups gain and lose most.

    Each of `gains`, all images first, has `variable, group, images, few, image_only, with_clinical` and the Estimate
    `gain`; without clinical data there are none. `most_gained` and `most_lost` are one of them, of FEW images
    or more, or None where no difference is more than rounding.
    """
    rows = [
        row | {"gain": row_estimate(row, "gain"), "few": int(row["images"]) < FEW}
        for row in _rows(read_table(CLINICAL_GAIN))
    ]
    many = sorted((row for row in rows[1:] if not row["few"]), key=lambda row: row["gain"].value)
    return {
        "gains": rows,
        "most_gained": next((row for row in many[::-1] if row["gain"].value >= 0.0005), None),
        "most_lost": next((row for row in many if row["gain"].value <= -0.0005), None),
    }


def read_trade_off(chosen: float) -> pd.DataFrame:
    """Return `prior_exponent, accuracy, balanced_accuracy` of the validation part.

    Raises:
        DataError: the table cannot be read, or does not have the chosen exponent.
    """
    table = read_numbers(TRADE_OFF)
    if not np.isclose(table["prior_exponent"], chosen).any():  # the table has nine digits
        raise DataError(f"{TRADE_OFF} is of another evaluate.prior_exponent than {chosen:g}: run dvc repro")
    return table


def describe_trade_off(chosen: float) -> dict[str, Any]:
    """Return accuracy and balanced accuracy of the validation part by prior exponent, as rows and as a chart."""
    table = read_trade_off(chosen)
    return {"trade_off": table.to_dict("records"), "trade_off_chart": trade_off_chart(table, chosen)}
