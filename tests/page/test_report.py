"""The page and the model card of real runs: what they say and what they leave out."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from dermoscopy.data.tables import read_table
from dermoscopy.page.gallery import choose_examples, draw_examples
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from dermoscopy.scoring.metrics import read_metrics, write_metrics
from stages import report
from tests.support.finished_run import PARAMS, run_stages
from tests.support.params_file import write_params

VOID = {"meta", "link", "img", "br", "line", "circle", "polyline"}


class Outline(HTMLParser):
    """The elements of a page, and whether each that is opened is closed in its turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of each element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def write_report(project: Path) -> None:
    """Run the stage again."""
    run_stages(project, [report])


def page_of(folder: Path) -> Outline:
    return Outline((folder / "report/index.html").read_text(encoding="utf-8"))


def test_every_element_is_closed_and_every_id_is_unique(finished: Path, many_classes: Path) -> None:
    for folder in (finished, many_classes):
        page = page_of(folder)
        assert page.open == []
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        links = {str(attributes["href"]) for attributes in page.attributes("a")}
        assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_page_is_one_file_without_scripts_or_addresses(finished: Path) -> None:
    page = page_of(finished)
    assert page.attributes("script") == []
    sources = [str(attributes["src"]) for attributes in page.attributes("img")]
    assert len(sources) >= 20
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?:", (finished / "report/index.html").read_text(encoding="utf-8"))


def test_the_page_stays_small(finished: Path, many_classes: Path) -> None:
    assert (finished / "report/index.html").stat().st_size < 1_000_000
    assert (many_classes / "report/index.html").stat().st_size < 3_000_000


def test_page_and_model_card_show_every_headline_metric(finished: Path) -> None:
    page, card = page_of(finished).text, (finished / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    metrics = json.loads((finished / "metrics/metrics.json").read_text(encoding="utf-8"))
    for values in metrics.values():
        for name in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "log_loss"):
            assert f"{values[name]:.3f}" in page
            assert f"{values[name]:.3f}" in card
    for name, values in metrics["test"]["per_class"].items():
        assert f"| {name} | {values['support']} | {values['recall']:.3f}" in card


def test_the_page_shows_every_param(finished: Path) -> None:
    html = (finished / "report/index.html").read_text(encoding="utf-8")
    text = Outline(html).text
    written = re.search(r"<summary>params.yaml</summary>\s*<pre><code>(.*?)</code>", html, re.DOTALL)
    assert written is not None
    block = yaml.safe_load(unescape(written[1]))
    assert block == load_params(finished / "params.yaml").model_dump()
    for values in block.values():
        assert all(key in text for key in values)


def test_page_and_model_card_say_that_this_is_not_a_medical_device(finished: Path) -> None:
    for name in ("index.html", "MODEL_CARD.md"):
        assert "not a medical device" in (finished / "report" / name).read_text(encoding="utf-8")


def test_each_image_and_each_drawing_says_in_words_what_it_shows(finished: Path) -> None:
    page = page_of(finished)
    assert all(attributes["alt"] for attributes in page.attributes("img"))
    for attributes in page.attributes("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_names_of_classes_are_shown_as_they_are_and_never_obeyed(many_classes: Path, nasty_names: list[str]) -> None:
    page = page_of(many_classes)
    assert page.attributes("script") == []
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    for name in nasty_names:
        assert name in page.text
    card = (many_classes / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<script" not in card
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]", card)
    assert "\n| a\\|b\\`\\*_\\# |" in card


def test_the_same_input_gives_the_same_bytes(project: Path) -> None:
    first = {path.name: path.read_bytes() for path in (project / "report").iterdir()}
    write_report(project)
    assert {path.name: path.read_bytes() for path in (project / "report").iterdir()} == first


def test_values_that_could_not_be_computed_are_dashes_with_their_reason(project: Path) -> None:
    metrics = json.loads((project / "metrics/metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]
    for name in ("ece_calibrated", "log_loss_calibrated", "temperature"):
        del test[name]
    test.update(macro_auc=None, balanced_accuracy_ci=None, screening=None, notes=[])
    test["per_class"]["nv"].update(auc=None, recall=None, support=1)
    (project / "metrics/metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    header = "part,variable,group,images,lesions,balanced_accuracy,low,high,note\n"
    (project / "metrics/subgroups.csv").write_text(header, encoding="utf-8")
    write_report(project)
    text = " ".join(page_of(project).text.split())
    assert "– undefined here" in text
    assert "– too few images" in text
    assert re.search(r"expected calibration error \d\.\d+ – not computed", text)
    assert "malignant against benign: – cannot be computed here" in text
    assert "– None: the label table names no sex" in text
    assert not re.search(r"\b(None(?!:)|nan|NaN|Undefined)\b", text)


def test_intervals_calibration_screening_and_subgroups_are_shown_where_they_were_computed(project: Path) -> None:
    metrics = read_metrics()
    test = metrics["test"]
    assert test.screening is not None
    changes = {
        "balanced_accuracy_ci": (0.1234, 0.5678),
        "ece": 0.0411,
        "ece_calibrated": 0.0277,
        "temperature": 1.379,
        "notes": ["a <b>note</b>"],
        "per_class": test.per_class
        | {"mel": test.per_class["mel"].model_copy(update={"recall": 0.5, "recall_ci": (0.31, 0.64)})},
        "screening": test.screening.model_copy(update={"auc": 0.7771, "auc_ci": (0.6661, 0.8881)}),
    }
    write_metrics(metrics | {"test": test.model_copy(update=changes)})
    (project / "metrics/subgroups.csv").write_text(
        "part,variable,group,images,lesions,balanced_accuracy,low,high,note\n"
        "validation,sex,male,30,30,0.91,0.8,0.95,\n"
        "test,sex,male,30,28,0.61,0.52,0.73,\n"
        "test,sex,<i>,3,3,,,,under 20 images\n",
        encoding="utf-8",
    )
    write_report(project)
    page, card = page_of(project), (project / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    text = " ".join(page.text.split())
    for expected in ("0.123–0.568", "0.041", "0.028", "temperature 1.38", "0.31–0.64", "0.777 0.666–0.888"):
        assert expected in text
    assert "male 30 28 lesions 0.61 0.52–0.73" in text
    assert "<i> under 20 images 3 3 lesions – undefined here" in text
    assert "0.91" not in text.split("Subgroups")[2]
    assert page.attributes("b") == page.attributes("i") == []
    for expected in ("(0.123–0.568)", "| sex | male | 30 | 0.610 (0.520–0.730) |", "- a &lt;b&gt;note&lt;/b&gt;"):
        assert expected in card


def test_without_a_gallery_no_network_is_run(project: Path) -> None:
    write_params(project, PARAMS | {"report": {"gallery": 0}})
    (project / "models/backbone/backbone.xml").unlink()
    write_report(project)
    assert page_of(project).attributes("img") == []


def test_a_map_shows_the_head_that_is_scored(project: Path) -> None:
    """Without other views, the probability that the map adds up to is the one that was scored."""
    chosen = choose_examples(read_table(Path("data/predictions.csv")), 2)
    examples = draw_examples(chosen, read_table(Path("data/manifest.csv")))
    assert len(examples) == len(chosen) > 10
    for example in examples:
        assert example.probability_alone == pytest.approx(example.probability, rel=1e-3)


def test_an_image_that_changed_since_it_was_scored_stops_the_stage(project: Path) -> None:
    before = (project / "report/index.html").read_bytes()
    for path in (project / "data/raw/images").iterdir():
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match="has changed since"):
        write_report(project)
    assert (project / "report/index.html").read_bytes() == before


@pytest.mark.parametrize(
    "path", ["metrics/metrics.json", "metrics/data.json", "metrics/training/plots/metrics/eval/loss.tsv"]
)
def test_an_input_that_is_missing_or_broken_is_named(project: Path, path: str) -> None:
    (project / path).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=path):
        write_report(project)
    (project / path).unlink()
    with pytest.raises(DataError, match=path):
        write_report(project)
