"""`make screenshots`: pictures of report/index.html and of the page of make app, for a person to look at.

As phones and desktops show them; the report as printers do, and the other page before and after an answer.

Needs Chromium or Chrome, as the system installs it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.errors import DataError, PipelineError
from dermoscopy.runtime.paths import PAGE, SCREENSHOTS
from dermoscopy.runtime.workspace import PROJECT

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
        with open_app(Path()) as url:
            for path in take_app_screenshots(browser, url, arguments.folder):
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


@contextmanager
def open_app(folder: Path, code: Path = PROJECT) -> Iterator[str]:
    """Serve the page of make app for the model of a folder, and give its address.

    Args:
        folder: a project with a finished run.
        code: the folder that holds `apps` and `dermoscopy`.

    Raises:
        PipelineError: it does not start; the reason is on its standard error.
    """
    command = [sys.executable, "-P", "-m", "apps.web", "--port", "0"]
    path = os.pathsep.join([str(code), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        try:
            url = next((found[0] for line in server.stdout if (found := re.search(r"http://\S+", line))), None)
            if url is None:
                raise PipelineError("the page of make app did not start, see above")
            yield url
        finally:
            server.terminate()


def take_app_screenshots(browser: "Browser", url: str, folder: Path) -> Iterator[Path]:
    """Write the page of make app in each size and colour scheme as PNG, before and after an example is answered."""
    for size, (width, height) in SIZES.items():
        for scheme in SCHEMES:
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto(url, wait_until="networkidle")
            for state in ("before", "after"):
                if state == "after":
                    tab.click("[data-example]")
                    tab.wait_for_selector("#headline")
                    tab.evaluate("scrollTo(0, 0)")
                path = folder / f"app-{state}-{size}-{scheme}.png"
                tab.screenshot(path=path, full_page=True)
                yield path
            tab.close()


if __name__ == "__main__":
    run_command(main)
