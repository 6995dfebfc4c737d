"""How a browser shows the page of real runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from PIL import Image

from dermoscopy.runtime.workspace import PROJECT
from tools.screenshots import SCHEMES, find_browser, open_browser, take_screenshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    if find_browser() is None:
        pytest.skip("this test looks at the page in Chromium or Chrome, and none is installed")
    with open_browser() as browser:
        yield browser


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
    hidden = """[...document.querySelectorAll("*")].filter(e => e.scrollWidth > e.clientWidth + 1
        && getComputedStyle(e).overflowX === "auto" && e.tabIndex < 0).length"""
    assert tab.evaluate(hidden) == 0
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the results"
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
