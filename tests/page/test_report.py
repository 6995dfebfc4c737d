"""The page and the model card of real runs: what they say, what they keep quiet, and how a browser shows them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dermoscopy.data.tables import read_table
from dermoscopy.page.gallery import choose_examples, draw_examples
from dermoscopy.runtime.errors import DataError
from dermoscopy.runtime.params import load_params
from dermoscopy.runtime.workspace import PROJECT
from stages import report
from tests.support.finished_run import relabel, run_pipeline
from tests.support.params_file import write_params
from tools.screenshots import SCHEMES, find_browser, open_browser, take_screenshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NASTY = ["<script>alert(1)</script>", 'a"onload="alert(1)', "[x](javascript:alert(1))", "a|b`*_#", "{{7*7}}", "a&amp;b"]
VOID = {"meta", "link", "img", "br", "line", "circle", "polyline"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of seven classes; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    run_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def many_classes(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 15 classes, some with names that HTML and Markdown could take for their own."""
    folder = tmp_path_factory.mktemp("many") / "run"
    relabel(finished, folder, NASTY + [f"class_{number}" for number in range(9)])
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run that a test may change, and the current folder."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def set_params(project: Path, changes: dict[str, dict[str, Any]]) -> None:
    """Change some of the params of a finished run."""
    write_params(project, load_params(project / "params.yaml").model_dump())
    content = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section].update(values)
    (project / "params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


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
    assert len(sources) > 20
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


def test_page_and_model_card_say_that_this_is_no_medical_device(finished: Path) -> None:
    for name in ("index.html", "MODEL_CARD.md"):
        assert "no medical device" in (finished / "report" / name).read_text(encoding="utf-8")


def test_each_image_and_each_drawing_says_in_words_what_it_shows(finished: Path) -> None:
    page = page_of(finished)
    assert all(attributes["alt"] for attributes in page.attributes("img"))
    for attributes in page.attributes("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_names_of_classes_are_shown_as_they_are_and_never_obeyed(many_classes: Path) -> None:
    page = page_of(many_classes)
    assert page.attributes("script") == []
    assert all(not name.startswith("on") for _, attributes in page.elements for name in attributes)
    for name in NASTY:
        assert name in page.text
    card = (many_classes / "report/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "<script" not in card
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]", card)
    assert "\n| a\\|b\\`\\*_\\# |" in card


def test_the_same_input_gives_the_same_bytes(project: Path) -> None:
    first = {path.name: path.read_bytes() for path in (project / "report").iterdir()}
    report.main()
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
    report.main()
    text = " ".join(page_of(project).text.split())
    assert "– undefined here" in text
    assert "– too few images" in text
    assert re.search(r"expected calibration error \d\.\d+ – not computed", text)
    assert "malignant against benign: – cannot be computed here" in text
    assert "too few lesions for an interval" in text
    assert "– None: the label table names no sex" in text
    assert not re.search(r"\b(None(?!:)|nan|NaN|Undefined)\b", text)


def test_intervals_calibration_screening_and_subgroups_are_shown_where_they_were_computed(project: Path) -> None:
    metrics = json.loads((project / "metrics/metrics.json").read_text(encoding="utf-8"))
    test = metrics["test"]
    test.update(balanced_accuracy_ci=[0.1234, 0.5678], ece=0.0411, ece_calibrated=0.0277, temperature=1.379)
    test["notes"] = ["a <b>note</b>"]
    test["per_class"]["mel"].update(recall=0.5, recall_ci=[0.31, 0.64])
    test["screening"] = {"malignant": 5, "benign": 13, "auc": 0.7771, "auc_ci": [0.6661, 0.8881]}
    (project / "metrics/metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (project / "metrics/subgroups.csv").write_text(
        "part,variable,group,images,lesions,balanced_accuracy,low,high,note\n"
        "validation,sex,male,30,30,0.91,0.8,0.95,\n"
        "test,sex,male,30,28,0.61,0.52,0.73,\n"
        "test,sex,<i>,3,3,,,,under 20 images\n",
        encoding="utf-8",
    )
    report.main()
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
    set_params(project, {"report": {"gallery": 0}})
    (project / "models/backbone/backbone.xml").unlink()
    report.main()
    assert page_of(project).attributes("img") == []


def test_a_map_shows_the_head_that_is_scored(project: Path) -> None:
    """Without other views, the probability that the map adds up to is the one that was scored."""
    set_params(project, {"evaluate": {"tta": False}})
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
        report.main()
    assert (project / "report/index.html").read_bytes() == before


@pytest.mark.parametrize(
    "path", ["metrics/metrics.json", "metrics/data.json", "metrics/training/plots/metrics/eval/loss.tsv"]
)
def test_an_input_that_is_missing_or_broken_is_named(project: Path, path: str) -> None:
    (project / path).write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=path):
        report.main()
    (project / path).unlink()
    with pytest.raises(DataError, match=path):
        report.main()


def test_the_stage_needs_no_tensorflow(project: Path) -> None:
    code = "import sys, stages.report; stages.report.main(); assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(PROJECT)})


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    if find_browser() is None:
        pytest.skip("this test looks at the page in Chromium or Chrome, and none is installed")
    with open_browser() as browser:
        yield browser


class TestBrowser:
    """The page in Chromium."""

    @pytest.fixture(params=["finished", "many_classes"])
    def page(self, request: pytest.FixtureRequest) -> Path:
        folder: Path = request.getfixturevalue(request.param)
        return folder / "report/index.html"

    def test_it_loads_without_an_error_and_asks_the_network_for_nothing(self, browser: "Browser", page: Path) -> None:
        messages: list[str] = []
        requests: list[str] = []
        tab = browser.new_page()
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri(), wait_until="networkidle")
        assert messages == []
        assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
        loaded = tab.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth, image.alt])")
        assert loaded
        assert all(complete and width and alt for complete, width, alt in loaded)
        tab.close()

    @pytest.mark.parametrize("width", [320, 360, 768, 1280])
    def test_it_never_scrolls_sideways(self, browser: "Browser", page: Path, width: int) -> None:
        tab = browser.new_page(viewport={"width": width, "height": 740})
        tab.goto(page.as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        tab.close()

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_text_stands_out_from_its_background(self, browser: "Browser", page: Path, scheme: Any) -> None:
        """At 4.5 to 1 or more, WCAG 2's level AA, wherever text stands on a colour of the page."""
        tab = browser.new_page(color_scheme=scheme)
        tab.goto(page.as_uri())
        contrasts = tab.evaluate((PROJECT / "tests/contrast.js").read_text(encoding="utf-8"))
        assert len(contrasts) > 100
        assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []
        tab.close()

    def test_every_table_that_scrolls_is_reached_by_the_keyboard(self, browser: "Browser", page: Path) -> None:
        tab = browser.new_page(viewport={"width": 360, "height": 740})
        tab.goto(page.as_uri())
        hidden = """[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
            && getComputedStyle(e).overflowX === "auto" && e.tabIndex < 0).length"""
        assert tab.evaluate(hidden) == 0
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
        tab.close()

    def test_screenshots_show_the_page_on_phone_desktop_and_paper(
        self, browser: "Browser", finished: Path, tmp_path: Path
    ) -> None:
        paths = list(take_screenshots(browser, finished / "report/index.html", tmp_path))
        assert [path.name for path in paths] == [
            "phone-light.png", "phone-dark.png", "desktop-light.png", "desktop-dark.png", "print.pdf",
        ]  # fmt: skip
        for path in paths[:-1]:
            picture = Image.open(path)
            assert picture.width == (360 if path.name.startswith("phone") else 1280)
            assert picture.height > 5000
            assert (np.asarray(picture.convert("L")).mean() > 128) == ("light" in path.name)
        assert paths[-1].read_bytes().startswith(b"%PDF")
