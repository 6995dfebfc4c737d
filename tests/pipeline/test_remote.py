"""A DVC remote for a team: what one person has computed, another fetches and does not compute again."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.workspace import Workspace, executed
from dermoscopy.runtime.workspace import PROJECT
from tests.support.drawn_project import drawn_project
from tests.support.s3_server import KEY, SECRET, S3Server

pytestmark = pytest.mark.slow

BUCKET = "dvc-remote"


class Clone(Workspace):
    """What another person clones; DVC's cache is in it, and empty."""

    def __init__(self, origin: Path, folder: Path) -> None:
        self.folder = folder.parent
        self.run("git", "clone", "--quiet", "--branch", "main", str(origin), str(folder))
        self.folder = folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path, s3_server: S3Server) -> Iterator[Workspace]:
    """A finished run of one person, pushed with Git and to a DVC remote."""
    folder = tmp_path_factory.mktemp("remote")
    s3_server.fill(BUCKET, {})
    with pytest.MonkeyPatch.context() as changed:
        for name, value in s3_server.environment().items():
            changed.setenv(name, value)
        workspace = drawn_project(folder / "project", cache)
        workspace.dvc("remote", "add", "--default", "team", f"s3://{BUCKET}/dvc")
        workspace.dvc("repro")
        workspace.run("git", "init", "--quiet", "--bare", str(folder / "team.git"))
        workspace.run("git", "remote", "add", "origin", str(folder / "team.git"))
        workspace.run("git", "add", "--all")
        workspace.run("git", "commit", "--quiet", "--message", "first run")
        workspace.run("git", "push", "--quiet", "origin", "HEAD:main")
        workspace.dvc("push")
        yield workspace


def test_a_clone_that_has_pulled_computes_nothing_and_experiments_go_from_one_to_the_other(
    project: Workspace, tmp_path: Path
) -> None:
    clone = Clone(project.folder.parent / "team.git", tmp_path / "clone")
    clone.dvc("pull")
    assert executed(clone.dvc("repro")) == []
    assert clone.metrics() == project.metrics()
    for name in ("data/predictions.csv", "models/head.npz", "report/index.html"):
        assert (clone.folder / name).read_bytes() == (project.folder / name).read_bytes()
    project.dvc("exp", "run", "--name", "less-dropout", "-S", "train.dropout=0.2", "evaluate")
    project.dvc("exp", "push", "origin", "less-dropout")
    clone.dvc("exp", "pull", "origin", "less-dropout")
    clone.dvc("exp", "apply", "less-dropout")
    assert executed(clone.dvc("repro", "evaluate")) == []
    assert clone.metrics() == project.metrics()
    assert "dropout: 0.2" in (clone.folder / "params.yaml").read_text()


def test_the_example_workflow_runs_what_a_branch_changes_and_comments_on_it(
    project: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = Clone(project.folder.parent / "team.git", tmp_path / "branch")
    params = branch.folder / "params.yaml"
    params.write_text(re.sub(r"(train:\n +dropout: )0.5", r"\g<1>0.2", params.read_text()))
    # GitHub's command, which writes down what it is asked for
    gh = tmp_path / "bin/gh"
    gh.parent.mkdir()
    gh.write_text('#!/bin/sh\necho "$@" > asked\n')
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gh.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("NUMBER", "7")
    (job,) = yaml.safe_load((PROJECT / "docs/examples/experiment.yml").read_text(encoding="utf-8"))["jobs"].values()
    install, run, comment = (step["run"] for step in job["steps"] if "run" in step)
    assert install.startswith("make s3\n")
    assert executed(branch.run("bash", "-e", "-c", run)) == ["train", "evaluate"]
    assert not (branch.folder / "data/raw").exists()  # nothing is fetched that nothing needs
    branch.run("bash", "-e", "-c", comment)
    assert (branch.folder / "asked").read_text().startswith("pr comment 7 ")
    text = (branch.folder / "comment.md").read_text()
    assert re.search(r"^train\.dropout +0\.5 +0\.2$", text, re.MULTILINE)
    assert "\nworkspace is " in text


def test_credentials_are_in_no_file_that_is_shared(project: Workspace) -> None:
    assert f"url = s3://{BUCKET}/dvc" in (project.folder / ".dvc/config").read_text()
    files = [path for path in project.folder.parent.rglob("*") if path.is_file()]
    assert len(files) > 200
    assert [path for path in files if KEY.encode() in (text := path.read_bytes()) or SECRET.encode() in text] == []
