"""The model card as Hugging Face reads it, and its lines of Python."""

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard_data import eval_results_to_model_index

from dermoscopy.data.tables import write_json
from dermoscopy.page.model_card import HOW_TO_USE, how_to_use
from dermoscopy.runtime.workspace import PROJECT
from dermoscopy.scoring.metrics import read_metrics
from stages import report
from tests.support.finished_run import PARAMS, run_stages
from tests.support.params_file import write_params

CARD = Path("report/MODEL_CARD.md")


def load_card(folder: Path) -> ModelCard:
    """Return the card as the Hub's own library reads it, which writes it as it was."""
    card: ModelCard = ModelCard.load(folder / CARD)
    assert yaml.safe_load(card.content.split("---\n")[1]) == card.data.to_dict()
    return card


def data_of(card: ModelCard) -> ModelCardData:
    """Return its metadata, which the library has by a wider type."""
    assert isinstance(card.data, ModelCardData)
    return card.data


def results_of(card: ModelCard) -> dict[str, EvalResult]:
    return {str(result.metric_name): result for result in data_of(card).eval_results or []}


def test_the_hub_reads_every_headline_metric_with_its_name_and_value(finished: Path) -> None:
    card = load_card(finished)
    data = data_of(card)
    test = read_metrics(finished / "metrics/metrics.json")["test"]
    assert test.screening is not None
    results = results_of(card)
    assert {name: result.metric_value for name, result in results.items()} == pytest.approx(
        {
            "Balanced accuracy": test.balanced_accuracy,
            "Accuracy": test.accuracy,
            "Macro F1": test.macro_f1,
            "Weighted F1": test.weighted_f1,
            "Macro AUC": test.macro_auc,
            "AUC, malignant against benign": test.screening.auc,
        },
        abs=5e-5,
    )
    for result in results.values():
        assert (result.task_type, result.dataset_split) == ("image-classification", "test")
        assert result.metric_type in (data.metrics or [])
    assert data.model_name is not None
    assert eval_results_to_model_index(data.model_name, [*results.values()]) == data.to_dict()["model-index"]
    assert card.text.startswith("\n# Model card: MobileNetV2 on dermoscopic images\n")


def test_the_hub_finds_library_and_task(finished: Path) -> None:
    data = data_of(load_card(finished))
    assert {"library_name": "keras", "pipeline_tag": "image-classification"}.items() <= data.to_dict().items()
    assert {"dermoscopy", "research-only", "mobilenetv2"} <= set(data.tags or [])
    # what the Hub's list of names allows
    for name in (*(data.tags or []), *(data.metrics or []), str(data.license)):
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name)


@pytest.mark.parametrize(
    ("source", "dataset", "licence", "name", "identifiers"),
    [
        ("kaggle", "HAM10000", "cc-by-nc-4.0", "HAM10000", ["HAM10000"]),
        ("directory", "ISIC 2018", "cc-by-nc-4.0", "ISIC 2018", ["ISIC-2018"]),
        ("directory", None, "unknown", "a folder of labelled images", None),
        ("sample", None, "mit", "images drawn by a program", None),
    ],
)
def test_the_licence_is_that_of_the_images_and_unknown_where_that_is_not_known(
    project: Path, source: str, dataset: str | None, licence: str, name: str, identifiers: list[str] | None
) -> None:
    write_params(project, PARAMS | {"data": {"source": source, "directory": "images"}})
    statistics = json.loads((project / "metrics/data.json").read_text(encoding="utf-8"))
    write_json(statistics | {"dataset": dataset}, project / "metrics/data.json")
    run_stages(project, [report])
    data = data_of(load_card(project))
    assert (data.license, data.datasets) == (licence, identifiers)
    assert {result.dataset_name for result in data.eval_results or []} == {name}
    assert data.model_name == f"MobileNetV2 on {name}"


def test_a_part_without_test_images_or_without_a_value_is_told_as_it_is(project: Path) -> None:
    metrics = json.loads((project / "metrics/metrics.json").read_text(encoding="utf-8"))
    metrics.pop("test")
    metrics["validation"].update(macro_auc=None, screening=None)
    write_json(metrics, project / "metrics/metrics.json")
    run_stages(project, [report])
    results = results_of(load_card(project))
    assert set(results) == {"Balanced accuracy", "Accuracy", "Macro F1", "Weighted F1"}
    assert {result.dataset_split for result in results.values()} == {"validation"}


def test_no_name_of_a_class_is_among_the_metadata(many_classes: Path, nasty_names: list[str], tmp_path: Path) -> None:
    card = load_card(many_classes)
    written = str(card.data.to_dict())
    assert [name for name in nasty_names if not name.isdigit() and name in written] == []
    assert results_of(card)["Accuracy"].metric_value > 0


def python_of(card: str) -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    return str(code)


def test_the_card_shows_how_to_use_the_exported_file(finished: Path, with_clinical: Path) -> None:
    code = python_of((finished / CARD).read_text(encoding="utf-8"))
    assert code == how_to_use(clinical=False)
    assert "model.predict(image[None])" in code
    code = python_of((with_clinical / CARD).read_text(encoding="utf-8"))
    assert code == how_to_use(clinical=True)
    assert 'model.predict({"image": image[None], "clinical": numbers[None]})' in code


@pytest.mark.parametrize("clinical", [False, True])
def test_the_lines_are_python_and_need_nothing_of_this_project(clinical: bool) -> None:
    code = how_to_use(clinical)
    compile(code, "card", "exec")
    imported = re.findall(r"^(?:import|from) (.*?)(?: as | import |$)", code, re.MULTILINE)
    assert imported == ["json, zipfile", "keras", "numpy", "PIL"]
    assert max(map(len, code.splitlines())) <= 100


@pytest.mark.parametrize("path", ["README.md", "docs/exported_model.md"])
def test_readme_and_docs_have_the_lines_of_the_card(path: str) -> None:
    assert f"```python\n{HOW_TO_USE}```" in (PROJECT / path).read_text(encoding="utf-8")
