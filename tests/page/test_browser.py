"""How a browser shows the page of real runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from PIL import Image

from dermoscopy.runtime.workspace import PROJECT
from tests.support.finished_run import fill_relabelled_run
from tools.screenshots import SCHEMES, take_screenshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture(params=["finished", "many_classes"])
def page(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder / "report/index.html"


def test_it_loads_without_an_error_and_asks_the_network_for_nothing(browser: "Browser", page: Path) -> None:
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
def test_it_never_scrolls_sideways(browser: "Browser", page: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 740})
    tab.goto(page.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    tab.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_its_background(browser: "Browser", page: Path, scheme: Literal["light", "dark"]) -> None:
    """At 4.5 to 1 or more, WCAG 2's level AA, wherever text stands on a colour of the page."""
    tab = browser.new_page(color_scheme=scheme)
    tab.goto(page.as_uri())
    contrasts = tab.evaluate((PROJECT / "tests/support/contrast.js").read_text(encoding="utf-8"))
    assert len(contrasts) > 100
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []
    tab.close()


def test_every_table_that_scrolls_is_reached_by_the_keyboard(browser: "Browser", page: Path) -> None:
    tab = browser.new_page(viewport={"width": 360, "height": 740})
    tab.goto(page.as_uri())
    # the bar of links scrolls to the link that is reached
    hidden = """[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
        && getComputedStyle(e).overflowX === "auto" && e.tabIndex < 0 && !e.querySelector("a")).length"""
    assert tab.evaluate(hidden) == 0
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
    tab.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_a_section_that_is_gone_to_is_not_under_the_bar_that_stays(browser: "Browser", page: Path, width: int) -> None:
    tab = browser.new_page(viewport={"width": width, "height": 740}, reduced_motion="reduce")
    tab.goto(page.as_uri())
    for link in tab.locator("nav a").all():
        link.focus()
        tab.keyboard.press("Enter")
        bar, title = tab.locator("nav").bounding_box(), tab.locator(f"h2{link.get_attribute('href')}").bounding_box()
        assert bar is not None
        assert title is not None
        assert bar["y"] == 0
        assert bar["height"] < 60
        assert bar["height"] <= title["y"] < 740
    tab.close()


def test_matrix_and_classes_are_side_by_side_on_a_desktop(browser: "Browser", finished: Path) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 740})
    tab.goto((finished / "report/index.html").as_uri())
    matrix, classes = (tab.locator(f"h2#{name}").bounding_box() for name in ("confusion", "classes"))
    assert matrix is not None
    assert classes is not None
    assert matrix["y"] == classes["y"]
    # of nothing in a table is only a part shown
    assert (
        tab.evaluate("[...document.querySelectorAll('.wide')].filter(e => e.scrollWidth > e.clientWidth).length") == 0
    )
    tab.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_in_every_cell_of_the_confusion_matrix_whatever_its_share(
    browser: "Browser", finished: Path, scheme: Literal["light", "dark"]
) -> None:
    tab = browser.new_page(color_scheme=scheme)
    tab.goto((finished / "report/index.html").as_uri())
    contrasts = (PROJECT / "tests/support/contrast.js").read_text(encoding="utf-8")
    for start in range(0, 101, 40):  # 49 cells
        tab.evaluate(
            f"document.querySelectorAll('.confusion td').forEach((cell, i) => {{"
            f"cell.style.setProperty('--share', Math.min(100, {start} + i)); cell.dataset.share = 1; }})"
        )
        found = tab.evaluate(contrasts)
        assert [(text, ratio) for text, ratio in found if ratio < 4.5] == []
    full = tab.evaluate(
        "getComputedStyle(document.querySelector('.confusion tbody tr:last-child td:last-child')).backgroundColor"
    )
    none = tab.evaluate("getComputedStyle(document.querySelector('.cards > div')).backgroundColor")
    assert full != none
    tab.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_caption_of_a_narrow_table_is_as_wide_as_a_line(
    browser: "Browser", finished: Path, tmp_path: Path, width: int
) -> None:
    fill_relabelled_run(tmp_path, finished, ["a", "b"])
    tab = browser.new_page(viewport={"width": width, "height": 740})
    tab.goto((tmp_path / "report/index.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    captions = tab.evaluate("""[...document.querySelectorAll("caption")].filter(e => e.checkVisibility()).map(
        e => [e.textContent, e.getBoundingClientRect().width])""")
    assert len(captions) > 5
    assert [(text, size) for text, size in captions if size < 290] == []
    tab.close()


def test_a_picture_is_enlarged_and_put_back_by_the_keyboard(browser: "Browser", finished: Path) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 740})
    tab.goto((finished / "report/index.html").as_uri())
    pictures, button = tab.locator(".pictures").first, tab.locator(".enlarge").first
    image = pictures.locator("img").first

    def width() -> float:
        box = image.bounding_box()
        assert box is not None
        return box["width"]

    small = width()
    button.focus()
    tab.keyboard.press("Enter")
    assert width() > 2 * small
    assert pictures.evaluate("e => e.matches(':popover-open')")
    tab.keyboard.press("Escape")
    assert width() == small
    button.click()
    tab.get_by_role("button", name="Close").click()
    assert width() == small
    tab.close()


def test_files_of_the_page_are_downloaded_from_the_page_itself(browser: "Browser", page: Path, tmp_path: Path) -> None:
    tab = browser.new_page()
    tab.goto(page.as_uri())
    for name in ("confusion-matrix.csv", "confusion-matrix.svg", "roc.svg"):
        with tab.expect_download() as download:
            tab.locator(f'a[download="{name}"]').click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 200
    tab.goto((tmp_path / "roc.svg").as_uri())
    (line, *_) = tab.evaluate("[...document.querySelectorAll('.colour-0')].map(e => getComputedStyle(e).stroke)")
    assert line == "rgb(0, 114, 178)"
    tab.close()


def test_params_are_not_folded_away_on_paper(browser: "Browser", finished: Path) -> None:
    tab = browser.new_page()
    tab.emulate_media(media="print")
    tab.goto((finished / "report/index.html").as_uri())
    assert tab.evaluate("document.querySelector('table.params').checkVisibility({contentVisibilityAuto: true})")
    assert tab.locator("table.params").bounding_box()
    tab.close()


def test_screenshots_show_the_page_on_phone_desktop_and_paper(
    browser: "Browser", finished: Path, tmp_path: Path
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
