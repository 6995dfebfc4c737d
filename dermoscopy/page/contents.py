"""Write report/index.html, one page with all results, and the model card."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stages.common.backbones import read_backbone_info
from stages.common.errors import DataError, run
from stages.common.files import replacing
from stages.common.params import load_params, require_unchanged
from stages.common.tables import MANIFEST, PREDICTIONS, PREDICTIONS_TTA, SPLIT, read_table
from stages.page.charts import Chart, precision_recall_chart, reliability_chart, roc_chart, training_chart
from stages.page.diagnoses import long_name
from stages.page.facts import IN_ALL, Estimate, count_parts, data_version, estimate, run_identity
from stages.page.gallery import choose_examples, draw_examples

METRICS = Path("metrics/metrics.json")
STATISTICS = Path("metrics/data.json")
SUBGROUPS = Path("metrics/subgroups.csv")
TRAINING = Path("metrics/training/plots/metrics")
PLOTS = Path("plots")
TEMPLATES = Path(__file__).parent / "page"
PAGE = Path("report/index.html")
MODEL_CARD = Path("report/MODEL_CARD.md")


def main() -> None:
    params = load_params()
    manifest, split = read_table(MANIFEST), read_table(SPLIT)
    metrics, backbone = read_json(METRICS), read_backbone_info()
    part = list(metrics)[-1]
    predictions = read_table(PREDICTIONS_TTA if params.evaluate.tta else PREDICTIONS)
    examples = choose_examples(predictions[predictions["part"] == part], params.report.gallery)
    counts = count_parts(manifest, split)
    version = data_version(manifest)
    content = {
        "params": params.model_dump(),
        "backbone": backbone,
        "weights": Path(params.backbone.weights).name,
        "metrics": metrics,
        "part": part,
        "statistics": read_json(STATISTICS),
        "counts": counts,
        "lesions": counts.loc[IN_ALL, (part, "lesions")],
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
        **describe_training(),
        **describe_curves(metrics[part]),
    }
    pages = {
        PAGE: render("index.html.jinja", **content, examples=draw_examples(examples, manifest)),
        MODEL_CARD: render("model_card.md.jinja", **content),
    }
    for path, text in pages.items():
        with replacing(path) as partial:
            partial.write_text(text, encoding="utf-8")
    require_unchanged(*(section for _, section in params))
    print(f"report: {PAGE} ({PAGE.stat().st_size / 1e6:.1f} MB, {len(examples)} images), {MODEL_CARD}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that an earlier stage wrote; a DataError if there is none."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run dvc repro, which makes it") from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def read_numbers(path: Path) -> pd.DataFrame:
    """Return a table whose columns are numbers, but for `label` and `probabilities`."""
    table = read_table(path)
    return table.astype({column: float for column in table.columns if column not in ("label", "probabilities")})


def read_subgroups(part: str) -> list[dict[str, Any]]:
    """Return `variable, group, images, lesions, estimate, note` of each subgroup of a part, in the file's order."""
    table = read_table(SUBGROUPS)

    def row_estimate(row: dict[str, str]) -> Estimate:
        value, low, high = (float(row[key]) if row[key] else None for key in ("balanced_accuracy", "low", "high"))
        return Estimate(value, low, high, reason="undefined here")

    rows: list[dict[str, Any]] = table[table["part"] == part].to_dict("records")  # type: ignore[assignment] # str keys
    return [row | {"estimate": row_estimate(row)} for row in rows]


def describe_classes(shown: dict[str, Any]) -> dict[str, Any]:
    """Return the classes, those that occur, the commonest one and its share of the images of a part."""
    support = {name: values["support"] for name, values in shown["per_class"].items()}
    commonest = max(support, key=lambda name: support[name])
    return {
        "classes": list(support),
        "present": sum(count > 0 for count in support.values()),
        "commonest": commonest,
        "majority": support[commonest] / shown["support"],
    }


def describe_training() -> dict[str, Any]:
    """Return the training curves, and the epoch (from 1) whose weights were kept, with its values."""
    curves = {}
    for part in ("train", "eval"):
        for name in ("loss", "accuracy"):
            path = TRAINING / part / f"{name}.tsv"
            try:
                curves[part, name] = pd.read_csv(path, sep="\t").assign(step=lambda table: table["step"] + 1)
            except (OSError, ValueError, KeyError) as error:
                raise DataError(f"{path} cannot be read ({error}): run dvc repro train") from None
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


class ClassCurves(NamedTuple):
    """The curves of a class; no ROC where all images are of it."""

    roc: Chart | None
    precision_recall: Chart


def describe_curves(shown: dict[str, Any]) -> dict[str, Any]:
    """Return confusion matrix, curves and reliability of a part from plots/."""
    classes = list(shown["per_class"])
    labels = read_table(PLOTS / "confusion_matrix.csv")
    confusion = pd.crosstab(labels["label"], labels["predicted"])
    roc = dict(iter(read_numbers(PLOTS / "roc.csv").groupby("label")))
    precision_recall = dict(iter(read_numbers(PLOTS / "precision_recall.csv").groupby("label")))
    reliability = read_numbers(PLOTS / "reliability.csv")
    return {
        "confusion": confusion.reindex(index=classes, columns=classes, fill_value=0),
        "curves": {
            label: ClassCurves(
                roc_chart(roc[label]) if label in roc else None,
                precision_recall_chart(curve, shown["per_class"][label]["support"] / shown["support"]),
            )
            for label, curve in precision_recall.items()
        },
        "reliability_chart": reliability_chart(reliability),
        "reliability": reliability.to_dict("records"),
        "temperature": shown.get("temperature"),
    }


def as_yaml(value: Any) -> str:
    """Return a value, or all params, as params.yaml would say it."""
    flow = not isinstance(value, dict)
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=flow)
    return text.removesuffix("...\n").strip()


def escape_markdown(value: Any) -> Any:
    """Return text that Markdown shows as it is; what a template itself made stays."""
    return re.sub(r"([\\`*\[\]|#])", r"\\\1", value) if type(value) is str else value


def render(template: str, **content: Any) -> str:
    """Return a template of stages/page filled in; names of classes and files are escaped, for they are untrusted."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=escape_markdown if template.endswith(".md.jinja") else None,
    )
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return environment.get_template(template).render(
        **content, style=style, estimate=estimate, long_name=long_name, as_yaml=as_yaml
    )


if __name__ == "__main__":
    run(main)
