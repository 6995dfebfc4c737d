"""How a browser shows the page, and what it asks of the network."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from PIL import Image

from dermoscopy.runtime.workspace import PROJECT
from tests.page.conftest import NASTY
from tests.support.photographs import jpeg
from tools.screenshots import SCHEMES, SIZES, open_app, take_app_screenshots

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FilePayload, Page

pytestmark = pytest.mark.slow

PHOTO: "FilePayload" = {"name": "my photo.jpg", "mimeType": "image/jpeg", "buffer": jpeg(1)}
DIAGNOSIS = "#headline strong"
# Gives a file to the page as a user who pastes or drops it.
GIVE = """([type, content]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(content)], "given.jpg", { type: "image/jpeg" }));
    const event = type === "paste"
        ? new ClipboardEvent(type, { clipboardData: data, bubbles: true })
        : new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
    document.getElementById("drop").dispatchEvent(event);
}"""


@pytest.fixture
def tab(browser: "Browser", url: str) -> "Iterator[Page]":
    """A tab that shows the page."""
    with open_tab(browser, url) as tab:
        yield tab


@contextmanager
def open_tab(
    browser: "Browser", url: str, width: int = 1280, scheme: Literal["light", "dark"] = "light"
) -> "Iterator[Page]":
    tab = browser.new_page(viewport={"width": width, "height": 740}, color_scheme=scheme)
    tab.goto(url)
    yield tab
    tab.close()


def answer_example(tab: "Page", number: int = 0) -> str:
    """Choose an example, wait for its answer, and return the predicted diagnosis."""
    tab.locator(f"[data-example='{number}']").click()
    tab.wait_for_selector(f"[data-example='{number}'][aria-pressed=true]")
    tab.wait_for_selector("#answer:not([aria-busy]) #headline")
    return tab.inner_text(DIAGNOSIS)


def test_a_photo_is_answered_and_no_request_leaves_this_machine(browser: "Browser", url: str) -> None:
    requests: list[str] = []
    messages: list[str] = []
    tab = browser.new_page()
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: messages.append(message.text))
    tab.on("pageerror", lambda error: messages.append(str(error)))
    tab.goto(url, wait_until="networkidle")
    tab.set_input_files("#photo", PHOTO)
    tab.wait_for_selector("#headline")
    tab.wait_for_load_state("networkidle")
    assert messages == []  # such as one of a request that the policy of the page has blocked
    sent = [address for address in requests if not address.startswith("data:")]
    assert [address for address in sent if not address.startswith(f"{url}/")] == []
    queue = f"{url}/queue/gradio_api/call/answer"
    assert len([address for address in sent if address.startswith(queue)]) == 2
    shown = tab.evaluate("[...document.images].map(image => [image.complete, image.naturalWidth, image.alt])")
    assert len(shown) > 10
    assert all(complete and width and alt for complete, width, alt in shown)
    tab.close()


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_a_photo_can_be_pasted_or_dropped(tab: "Page", way: str) -> None:
    tab.set_input_files("#photo", PHOTO)
    tab.wait_for_selector("#headline")
    chosen = tab.inner_html("#answer")
    tab.reload()
    tab.evaluate(GIVE, [way, list(PHOTO["buffer"])])
    tab.wait_for_selector("#headline")
    assert tab.inner_html("#answer") == chosen


def test_everything_is_told_in_the_answer(tab: "Page") -> None:
    answer_example(tab)
    assert tab.locator(".bars tbody tr").count() == 7
    shares = [text.replace("\u00a0", "").strip("%<>") for text in tab.locator(".bars .number").all_inner_texts()]
    assert sum(map(float, shares)) == pytest.approx(100, abs=0.5)
    assert tab.locator(".similar li").count() == 6
    assert tab.locator(".heat").count() == 7
    assert tab.inner_text(".truth").startswith(("Right.", "Wrong."))
    assert "%" in tab.inner_text(".figure")
    assert tab.locator("section:has(> h3)").count() == tab.locator("section:has(> h3):has(> .note)").count() > 3


def test_the_diagnosis_of_an_example_is_told_after_the_answer_only(tab: "Page") -> None:
    before = tab.inner_text("body")
    answer_example(tab)
    assert "melano" not in before
    assert "This example" in tab.inner_text("#answer")
    tab.set_input_files("#photo", PHOTO)
    tab.wait_for_selector("#answer:not(:has(.truth)) #headline")


def test_the_map_is_laid_over_the_photo_without_asking_the_server(tab: "Page") -> None:
    answer_example(tab)
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    seen = "[...document.querySelectorAll('.heat')].filter(e => e.checkVisibility()).map(e => e.dataset.label)"
    tab.select_option("#map", "nv")
    assert tab.evaluate(seen) == ["nv"]
    tab.select_option("#map", "mel")
    assert tab.evaluate(seen) == ["mel"]
    tab.fill("#opacity", "80")
    assert tab.evaluate("getComputedStyle(document.querySelector('.heat:not([hidden])')).opacity") == "0.8"
    assert requests == []


def test_it_is_used_by_the_keyboard_alone(tab: "Page") -> None:
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the photo"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "photo"
    assert tab.evaluate("getComputedStyle(document.getElementById('drop')).outlineStyle") == "solid"
    tab.wait_for_load_state("networkidle")
    tab.evaluate("new Promise(requestAnimationFrame)")  # before it has drawn the page, Chromium may drop a key
    with tab.expect_file_chooser() as chooser:
        tab.keyboard.press("Space")
    chooser.value.set_files(PHOTO)
    tab.wait_for_selector("#headline:focus")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "map"
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowRight")
    assert tab.input_value("#opacity") == "50"
    tab.focus("#photo")
    tab.keyboard.press("Tab")
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".truth")


def test_the_answer_and_the_fault_are_announced(tab: "Page") -> None:
    diagnosis = answer_example(tab)
    assert tab.inner_text("[role=status]").lower() == f"answer: {diagnosis}.".lower()
    tab.set_input_files("#photo", PHOTO | {"buffer": b"text"})
    tab.wait_for_selector("[role=alert]:not(:empty)")
    assert tab.inner_text("[role=alert]").startswith("my photo.jpg: not an image")
    assert tab.inner_text("[role=status]") == ""
    assert tab.locator("#headline").count() == 0
    answer_example(tab)
    assert tab.inner_text("[role=alert]") == ""


def test_a_file_that_is_too_large_is_not_sent(tab: "Page", tmp_path: Path) -> None:
    answer_example(tab)
    requests: list[str] = []
    tab.on("request", lambda request: requests.append(request.url))
    (tmp_path / "large.jpg").write_bytes(bytes(21_000_000))
    tab.set_input_files("#photo", tmp_path / "large.jpg")
    tab.wait_for_selector("[role=alert]:not(:empty)")
    assert tab.inner_text("[role=alert]") == "large.jpg: the file is larger than 20 MB."
    assert tab.locator("#headline").count() == 0  # nor an older answer beside it
    assert [address for address in requests if "/queue/" in address] == []


def test_a_server_that_is_gone_is_said_in_one_line(browser: "Browser", finished: Path) -> None:
    tab = browser.new_page()
    with open_app(finished) as url:
        tab.goto(url, wait_until="networkidle")
    tab.set_input_files("#photo", PHOTO)
    tab.wait_for_selector("[role=alert]:not(:empty)")
    assert tab.inner_text("[role=alert]").startswith("The server does not answer")
    tab.close()


def test_what_is_known_of_the_patient_is_asked_where_it_counts_only(
    browser: "Browser", tab: "Page", with_clinical: Path
) -> None:
    assert tab.locator("fieldset").count() == 0
    assert "goes by the image alone" in tab.inner_text("form")
    with open_app(with_clinical) as url, open_tab(browser, url) as with_fields:
        names = with_fields.evaluate("[...document.querySelectorAll('fieldset [name]')].map(e => e.name)")
        assert names == ["age", "sex"]
        answer_example(with_fields)
        assert "Nothing of it was given" in with_fields.inner_text("#answer")
        before = with_fields.inner_text(".bars")
        with_fields.select_option("#map", "bkl")
        with_fields.fill("#opacity", "90")
        with_fields.fill("[name=age]", "85")
        with_fields.press("[name=age]", "Tab")
        with_fields.wait_for_selector(".change")
        assert with_fields.evaluate("document.activeElement.name") == "sex"  # nothing takes the focus away
        assert with_fields.inner_text(".bars") != before
        # the same photo: what was looked at stays
        assert (with_fields.input_value("#map"), with_fields.input_value("#opacity")) == ("bkl", "90")
        with_fields.locator("[data-example='1']").click()
        with_fields.fill("[name=age]", "850")
        with_fields.press("[name=age]", "Tab")
        assert with_fields.locator("[name=age]:invalid").count() == 1
        with_fields.wait_for_selector("#answer:not([aria-busy]) .truth")  # the answer on its way comes all the same


def test_names_of_classes_are_text(browser: "Browser", with_nasty_names: Path) -> None:
    messages: list[str] = []
    with open_app(with_nasty_names) as url, open_tab(browser, url, 360) as tab:
        tab.on("dialog", lambda dialog: messages.append(dialog.message))
        tab.on("console", lambda message: messages.append(message.text))
        answer_example(tab)
        shown = tab.evaluate("[...document.querySelectorAll('.bars th[scope=row]')].map(e => e.textContent)")
        assert sorted(shown) == sorted(NASTY)
        for name in NASTY:
            tab.select_option("#map", name)
            assert tab.evaluate("document.querySelector('.heat:not([hidden])').dataset.label") == name
        assert tab.evaluate("document.documentElement.scrollWidth") == 360
    assert messages == []


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_it_never_scrolls_sideways_and_the_banner_stays(browser: "Browser", url: str, width: int) -> None:
    in_view = """() => {
        const box = document.querySelector(".banner").getBoundingClientRect();
        const front = document.elementFromPoint(20, box.top + 5).closest(".banner");
        return box.top >= 0 && box.bottom <= innerHeight / 4 && front !== null;
    }"""
    with open_tab(browser, url, width) as tab:
        answer_example(tab)
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        for place in ("0", "document.body.scrollHeight / 2", "document.body.scrollHeight"):
            tab.evaluate(f"scrollTo(0, {place})")
            assert tab.evaluate(in_view)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_its_background(browser: "Browser", url: str, scheme: Literal["light", "dark"]) -> None:
    """At 4.5 to 1 or more, WCAG 2's level AA, before and after an answer, and beside an error."""
    contrast = (PROJECT / "tests/support/contrast.js").read_text(encoding="utf-8")
    with open_tab(browser, url, scheme=scheme) as tab:
        contrasts = tab.evaluate(contrast)
        answer_example(tab)
        contrasts += tab.evaluate(contrast)
        tab.set_input_files("#photo", PHOTO | {"buffer": b"text"})
        tab.wait_for_selector("[role=alert]:not(:empty)")
        contrasts += tab.evaluate(contrast)
    assert len(contrasts) > 100
    assert [(text, ratio) for text, ratio in contrasts if ratio < 4.5] == []


def test_screenshots_show_the_page_before_and_after_an_answer(browser: "Browser", url: str, tmp_path: Path) -> None:
    paths = list(take_app_screenshots(browser, url, tmp_path))
    assert [path.name for path in paths] == [
        f"app-{state}-{size}-{scheme}.png" for size in SIZES for scheme in SCHEMES for state in ("before", "after")
    ]
    heights = {}
    for path in paths:
        picture = Image.open(path)
        heights[path.name] = picture.height
        assert picture.width == (360 if "phone" in path.name else 1280)
        assert (np.asarray(picture.convert("L")).mean() > 128) == ("light" in path.name)
    assert heights["app-after-phone-light.png"] > 2 * heights["app-before-phone-light.png"]
