"""The image of the page (Dockerfile), as far as it can be tried without Docker: its files, its packages, its user."""

import re
import shutil
from pathlib import Path

import pytest

from dermoscopy.runtime.workspace import PROJECT
from tests.support.page_question import ask
from tools.screenshots import open_app

# Python finds none of the packages that the image does not have.
ONLY = """
import re, sys
from importlib.metadata import packages_distributions
def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()
there = {plain(name) for name in NAMES}
absent = {top for top, names in packages_distributions().items() if not {plain(name) for name in names} & there}
class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in absent - {"sitecustomize"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent)
"""


def instructions() -> list[str]:
    """Return the lines of the Dockerfile that say what to do."""
    lines = (PROJECT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def packages() -> list[str]:
    """Return the names of the packages in the image."""
    return re.findall(r"^([\w.-]+)==", (PROJECT / "requirements-serve.txt").read_text(encoding="utf-8"), re.MULTILINE)


def test_it_has_neither_what_trains_nor_what_runs_the_pipeline() -> None:
    assert "gradio" in packages()
    assert not {"dvc", "dvclive", "jax", "kaggle", "keras", "matplotlib", "tensorflow", "torch"} & set(packages())


def test_its_packages_have_the_versions_of_the_pipeline() -> None:
    def pins(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for package, version in re.findall(
            r"^([\w.-]+)==([^\s;]+)", (PROJECT / name).read_text(encoding="utf-8"), re.MULTILINE
        ):
            found.setdefault(package, set()).add(version)
        return found

    ours, image = pins("requirements.txt"), pins("requirements-serve.txt")
    assert {name for name in ours.keys() & image.keys() if ours[name] != image[name]} == set()


def test_it_copies_code_only_and_does_not_run_as_root() -> None:
    copied = [line.split()[1] for line in instructions() if line.startswith("COPY") and "--from" not in line]
    assert copied == ["requirements-serve.txt", "dermoscopy", "apps"]
    ignored = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[1] == "*"
    assert [line[1:] for line in ignored if line.startswith("!")] == ["requirements-serve.txt", "apps", "dermoscopy"]
    (user,) = (line.split()[1] for line in instructions() if line.startswith("USER"))
    assert user not in ("root", "0", "0:0")


@pytest.mark.slow
def test_what_it_has_is_enough_to_answer_a_photo(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("apps", "dermoscopy"):
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sitecustomize.py").write_text(ONLY.replace("NAMES", repr(packages())), encoding="utf-8")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with open_app(finished, code=tmp_path) as url:
        assert "The model's answer" in ask(url, example=0)["html"]
