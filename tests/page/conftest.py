"""Finished runs, made once a session; tests that change one take `project` or `with_clinical`, copies."""

import shutil
from pathlib import Path

import pytest

from stages import evaluate, report, train
from tests.support.finished_run import PARAMS, fill_relabelled_run, run_stages
from tests.support.once import made_once
from tests.support.params_file import write_params

NASTY = [
    *("<script>alert(1)</script>", 'a"onload="alert(1)', "[x](javascript:alert(1))", "a|b`*_#", "{{7*7}}", "a&amp;b"),
    *("0", "1", "in all", "melanoma (less than 0.76 mm), nos", "色素性母斑"),
    "one_word_of_over_forty_letters_in_one_piece",
]


@pytest.fixture(scope="session")
def nasty_names() -> list[str]:
    """Names of classes that HTML, Markdown or the templates could take for their own."""
    return NASTY


@pytest.fixture(scope="session")
def many_classes(tmp_path_factory: pytest.TempPathFactory, finished: Path, nasty_names: list[str]) -> Path:
    """A finished run of 15 classes, some with nasty names; tests leave it as it is."""
    classes = nasty_names + [f"class_{number}" for number in range(15 - len(nasty_names))]
    return made_once(tmp_path_factory, "many-classes", lambda folder: fill_relabelled_run(folder, finished, classes))


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run that a test may change, and the current folder."""
    shutil.copytree(finished, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def with_clinical(
    tmp_path_factory: pytest.TempPathFactory, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of a finished run with age and sex in the head, which a test may change, and the current folder."""

    def fill(folder: Path) -> None:
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        write_params(folder, PARAMS | {"train": {"epochs": 5, "clinical": ["age", "sex"]}})
        run_stages(folder, [train, evaluate, report])

    shutil.copytree(made_once(tmp_path_factory, "with-clinical", fill), tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"
