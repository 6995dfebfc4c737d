"""Images in a bucket through real DVC: the results of the same images in a folder, and nothing stale, lost or told."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.sources import sample
from dermoscopy.data.tables import read_table
from tests.support.drawn_project import CHANGES, drawn_project
from tests.support.params_file import PARAMS
from tests.support.s3_server import KEY, SECRET, S3Server

pytestmark = pytest.mark.slow

BUCKET = "dermoscopic-images"
ADDRESS = f"s3://{BUCKET}/drawn"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images and their label table."""
    folder = tmp_path_factory.mktemp("object storage")
    (folder / "drawn").mkdir()
    sample.fetch(PARAMS.data.model_copy(update=CHANGES["data"]), folder / "drawn", folder)
    return folder / "drawn"


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What all runs of this module print."""
    return []


@pytest.fixture(scope="module")
def project(folder: Path, cache: Path, s3_server: S3Server, printed: list[str]) -> Iterator[Workspace]:
    """A finished run on a bucket of them; the tests of this module go on from it in order."""
    s3_server.fill(
        BUCKET, {f"drawn/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    )
    with pytest.MonkeyPatch.context() as changed:
        for name, value in s3_server.environment().items():
            changed.setenv(name, value)
        workspace = drawn_project(folder.parent / "project", cache, data={"source": "directory", "directory": ADDRESS})
        printed.append(workspace.dvc("repro"))
        workspace.run("git", "add", "--all")
        workspace.run("git", "commit", "--quiet", "--message", "first run")
        yield workspace


def test_the_results_are_those_of_the_same_images_in_a_folder(project: Workspace, folder: Path, cache: Path) -> None:
    changes = {"source": "directory", "directory": "../drawn"}
    of_folder = drawn_project(folder.parent / "of folder", cache, data=changes)
    of_folder.dvc("repro", "evaluate")
    ours, theirs = (read_table(workspace.folder / "data/manifest.csv") for workspace in (project, of_folder))
    assert ours["path"].str.startswith(f"{ADDRESS}/images/").all()
    pd.testing.assert_frame_equal(ours.drop(columns="path"), theirs.drop(columns="path"))
    for name in ("metrics/metrics.json", "data/predictions.csv", "data/predictions_tta.csv", "models/head.npz"):
        assert (project.folder / name).read_bytes() == (of_folder.folder / name).read_bytes()
    assert "images are not shown" not in (project.folder / "report/index.html").read_text()


def test_nothing_changed_runs_nothing(project: Workspace, printed: list[str]) -> None:
    printed.append(project.dvc("repro"))
    assert executed(printed[-1]) == []


def test_an_object_that_is_overwritten_is_noticed(project: Workspace, folder: Path, s3_server: S3Server) -> None:
    before = read_table(project.folder / "data/manifest.csv").set_index("image_id")["sha256"]
    one, other = sorted((folder / "images").iterdir())[:2]
    s3_server.client.put_object(Bucket=BUCKET, Key=f"drawn/images/{one.name}", Body=other.read_bytes())
    assert executed(project.dvc("repro", "manifest")) == ["manifest"]
    after = read_table(project.folder / "data/manifest.csv").set_index("image_id")["sha256"]
    assert after[one.stem] == before[other.stem]
    assert (before != after).sum() == 1
    s3_server.client.put_object(Bucket=BUCKET, Key=f"drawn/images/{one.name}", Body=one.read_bytes())
    assert executed(project.dvc("repro")) == []  # all from DVC's cache


def test_a_clone_without_credentials_varies_the_head_and_says_what_it_lacks(
    project: Workspace, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: list[str]
) -> None:
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    monkeypatch.setattr(project, "folder", tmp_path / "clone")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    project.dvc("config", "--local", "cache.dir", str(cache))
    project.dvc("checkout")
    printed.append(project.dvc("exp", "run", "-S", "train.dropout=0.3"))
    assert executed(printed[-1]) == ["train", "evaluate", "report"]
    assert f"warning: listing: {ADDRESS} may not be read (Unable to locate credentials): check the" in printed[-1]
    page = (project.folder / "report/index.html").read_text()
    assert f"images are not shown: their files are not here, such as {ADDRESS}/images/" in page
    printed.append(project.dvc("exp", "run", "-S", "augmentation.seed=2", status=255))
    (line,) = (line for line in printed[-1].splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: {ADDRESS}/images/")
    assert line.endswith("(Unable to locate credentials): check the credentials of s3://, see docs/storage.md")
    assert "Traceback" not in printed[-1]


def test_credentials_are_in_no_file_and_no_output(project: Workspace, cache: Path, printed: list[str]) -> None:
    secrets = [KEY.encode(), SECRET.encode()]
    files = [path for folder in (project.folder, cache) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 200
    assert [path for path in files if any(secret in path.read_bytes() for secret in secrets)] == []
    assert len(printed) == 4
    assert not any(secret.decode() in output for secret in secrets for output in printed)
