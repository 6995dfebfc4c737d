"""`make screenshots`: pictures of report/index.html, as phones, desktops and printers show it, for a person to look at.

Needs Chromium or Chrome, as the system installs it.
"""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import DataError, PipelineError
from dermoscopy.runtime.paths import PAGE, SCREENSHOTS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

COMMANDS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
OPTIONS = [
    "--no-sandbox",  # it refuses to run as root, as in containers; the page is our own and runs no script
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"phone": (360, 740), "desktop": (1280, 800)}
SCHEMES: list[Literal["light", "dark"]] = ["light", "dark"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("page", nargs="?", type=Path, default=PAGE)
    parser.add_argument("folder", nargs="?", type=Path, default=SCREENSHOTS)
    arguments = parser.parse_args()
    if not arguments.page.is_file():
        raise DataError(f"{arguments.page} is missing: run dvc repro, which makes it")
    with open_browser() as browser:
        for path in take_screenshots(browser, arguments.page, arguments.folder):
            print(path)


def find_browser() -> str | None:
    """Return the path of the Chromium or Chrome of this system, or None."""
    return next(filter(None, map(shutil.which, COMMANDS)), None)


@contextmanager
def open_browser() -> "Iterator[Browser]":
    """Give a headless browser with a fresh profile; a PipelineError if this system has none."""
    from playwright.sync_api import sync_playwright

    command = find_browser()
    if command is None:
        raise PipelineError(f"none of {', '.join(COMMANDS)} is installed: install one, such as by apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=command, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def take_screenshots(browser: "Browser", page: Path, folder: Path) -> Iterator[Path]:
    """Write the whole page in each size and colour scheme as PNG, and as it is printed, as PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto(page.resolve().as_uri())
            path = folder / f"{size}-{scheme}.png"
            tab.screenshot(path=path, full_page=True)
            yield path
            tab.close()
    tab = browser.new_page()
    tab.goto(page.resolve().as_uri())
    tab.pdf(path=folder / "print.pdf", prefer_css_page_size=True, format="A4")
    yield folder / "print.pdf"
    tab.close()


if __name__ == "__main__":
    run_command(main)
