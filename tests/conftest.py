"""What many tests need: real data from the folder `shared` beside the checkout, Keras, small backbones, shared runs.

A test that asks for `shared`, or for a fixture made from it, gets the mark `real_data`, and is skipped where there is
no such folder. In continuous integration no other test may be skipped.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.real_data import SHARED
from dermoscopy.runtime.keras_start import start_keras
from tests.support.once import made_once

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest_plugins = ["tests.support.machine", "tests.support.s3_server"]

BACKBONE_SIZE = 64  # pixels
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # tests know what a processor gives


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared" in getattr(item, "fixturenames", []):
            item.add_marker("real_data")
            if not SHARED.is_dir():
                item.add_marker(pytest.mark.skip(reason=f"needs the real images, labels and weights of {SHARED}"))


class Skipped:
    """Counts the skipped tests, and in continuous integration fails the session where one needs no real data."""

    def __init__(self) -> None:
        self.real_data: list[str] = []
        self.others: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            (self.real_data if "real_data" in report.keywords else self.others).append(report.nodeid)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.others and os.environ.get("CI") and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.real_data:
            terminalreporter.write_line(f"{len(self.real_data)} tests were skipped for want of real data in {SHARED}")
        if self.others and os.environ.get("CI"):
            terminalreporter.write_line(f"in CI these tests must not be skipped: {', '.join(self.others)}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job, whose children would not hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # the one process that hears of all tests
        config.pluginmanager.register(Skipped())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data."""
    return SHARED


@pytest.fixture(scope="session")
def isic(shared: Path) -> Path:
    """755 dermoscopic images in `images/`, and their labels in the ISIC challenge form."""
    return shared / "data/isic2018-test"


@pytest.fixture(scope="session")
def ham10000_metadata(shared: Path) -> Path:
    """The label table of HAM10000, whole."""
    return shared / "data/ham10000/HAM10000_metadata.csv"


@pytest.fixture(scope="session")
def mobilenet_weights(shared: Path) -> Path:
    """ImageNet weights of MobileNetV2 without its top."""
    return shared / "weights/mobilenet_v2_imagenet_notop.weights.h5"


@pytest.fixture(scope="session")
def keras() -> Any:
    """Keras on TensorFlow, as the stages start it."""
    start_keras(seed=0)
    import keras

    return keras


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of three backbones as the stage writes them: one, the same network with other weights, another network.

    They are built and converted once a session; change copies only.
    """

    def fill(folder: Path) -> None:
        for name, network, seed in [
            ("first", "MobileNetV2", 1),
            ("weights", "MobileNetV2", 2),
            ("network", "MobileNet", 1),
        ]:
            start_keras(seed)
            from dermoscopy.features.networks import build_backbone, write_backbone

            (folder / name).mkdir()
            write_backbone(build_backbone(network, None, BACKBONE_SIZE), network, folder / name)

    folder = made_once(tmp_path_factory, "backbones", fill)
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, backbones: dict[str, Path]) -> Path:
    """A finished run of seven classes on drawn images; tests leave it as it is."""
    from tests.support.finished_run import fill_run  # the stages, whose import changes what Ctrl-C does

    return made_once(tmp_path_factory, "finished", lambda folder: fill_run(folder, backbones["first"]))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium or Chrome, without a window."""
    from tools.screenshots import find_browser, open_browser  # as above

    if find_browser() is None:
        pytest.skip("this test looks at a page in Chromium or Chrome, and none is installed")
    with open_browser() as browser:
        yield browser
