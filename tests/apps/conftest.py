"""Finished runs that the page is served for, made once a session; tests leave them as they are."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stages import evaluate, report, train
from tests.page.conftest import NASTY
from tests.support.finished_run import PARAMS, fill_relabelled_run, run_stages
from tests.support.once import made_once
from tests.support.params_file import write_params
from tools.screenshots import open_app

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="session")
def with_nasty_names(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A finished run with names of classes that HTML or the templates could take for their own."""
    return made_once(tmp_path_factory, "nasty", lambda folder: fill_relabelled_run(folder, finished, NASTY))


@pytest.fixture(scope="session")
def with_clinical(tmp_path_factory: pytest.TempPathFactory, finished: Path) -> Path:
    """A finished run with age and sex in the head."""

    def fill(folder: Path) -> None:
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        write_params(folder, PARAMS | {"train": {"epochs": 5, "clinical": ["age", "sex"]}})
        run_stages(folder, [train, evaluate, report])

    return made_once(tmp_path_factory, "app-with-clinical", fill)


@pytest.fixture(scope="module")
def url(finished: Path) -> Iterator[str]:
    """The address of a page that is served for the finished run."""
    with open_app(finished) as url:
        yield url
