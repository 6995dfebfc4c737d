"""A user's own folder through real DVC: what changes in it is noticed, and what needs no image runs without them."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.workspace import Workspace, executed
from dermoscopy.data.sources import sample
from dermoscopy.data.tables import read_table
from tests.support.drawn_project import CHANGES, drawn_project
from tests.support.params_file import PARAMS

pytestmark = pytest.mark.slow

AFTER_THE_LABELS = ["manifest", "split", "finetune", "features", "train", "evaluate", "report"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Workspace:
    """A finished run on a folder for each class, in the project; the tests of this module go on from it in order."""
    folder = tmp_path_factory.mktemp("own data")
    raw = folder / "drawn"
    raw.mkdir()
    sample.fetch(PARAMS.data.model_copy(update=CHANGES["data"]), raw, folder)
    workspace = drawn_project(folder / "project", cache, data={"source": "directory", "directory": "mine"})
    (workspace.folder / ".gitignore").open("a").write("/mine\n")
    for row in pd.read_csv(raw / "labels.csv").itertuples():
        place = workspace.folder / f"mine/{row.dx}"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / f"images/{row.image_id}.jpg", place)
    workspace.dvc("repro")
    workspace.run("git", "add", "--all")
    workspace.run("git", "commit", "--quiet", "--message", "first run")
    return workspace


def manifest(project: Workspace) -> pd.DataFrame:
    return read_table(project.folder / "data/manifest.csv")


def test_nothing_changed_runs_nothing(project: Workspace) -> None:
    assert executed(project.dvc("repro")) == []


def test_a_class_that_the_user_renames_is_in_the_next_report(project: Workspace) -> None:
    (project.folder / "mine/nv").rename(project.folder / "mine/Clark Nevus")
    assert executed(project.dvc("repro")) == AFTER_THE_LABELS
    assert "clark nevus" in (project.folder / "report/index.html").read_text()
    assert "nv" not in set(manifest(project)["label"])


def test_an_image_that_the_user_adds_or_removes_is_noticed_by_the_next_experiment(project: Workspace) -> None:
    image = next((project.folder / "mine/mel").iterdir())
    before = len(manifest(project))
    content = image.read_bytes()
    image.unlink()
    assert project.experiment("train.epochs=2")[0] == "manifest"
    assert len(manifest(project)) == before - 1
    image.write_bytes(content)
    project.dvc("repro", "manifest")
    assert len(manifest(project)) == before


def test_a_table_is_noticed_its_fault_too_and_that_the_fault_is_mended(project: Workspace) -> None:
    images = manifest(project)
    table = project.folder / "mine/labels.csv"
    named = zip(images["path"], images["label"], strict=True)
    rows = [f"{Path(path).name},{label}\n" for path, label in named]
    table.write_text("foto,Befund\n" + "".join(rows))
    output = project.dvc("repro", "split", status=255)
    assert "error: no label table: mine/labels.csv has the columns foto, Befund: which of them has the image?" in output
    columns = ("-S", "data.columns.image=foto", "-S", "data.columns.label=Befund")
    rows[7] = rows[8]
    table.write_text("foto,Befund\n" + "".join(rows))
    output = project.dvc("exp", "run", *columns, "split", status=255)
    assert "error: mine/labels.csv, row 10, column foto: " in output
    table.write_text("foto,Befund\n" + "".join(rows[:7] + rows[8:]))
    assert "split" in executed(project.dvc("exp", "run", *columns, "split"))
    assert len(manifest(project)) == len(images) - 1
    table.write_text("foto,Befund\n" + "".join(reversed(rows[:7] + rows[8:])))
    assert executed(project.dvc("repro", "split")) == ["manifest"]
    table.unlink()
    project.dvc("exp", "run", "-S", "data.columns.image=null", "-S", "data.columns.label=null", "-S", "train.epochs=3")


def test_a_queued_experiment_reads_the_folder_of_the_project(project: Workspace) -> None:
    project.dvc("exp", "run", "--queue", "-S", "split.seed=3", "-S", "data.on_unlabelled=fail")
    assert project.finish_queue().count("Success") == 1


def test_a_project_that_moved_has_nothing_to_do(project: Workspace) -> None:
    project.folder = project.folder.rename(project.folder.with_name("moved"))
    assert executed(project.dvc("repro")) == []


def test_a_change_of_dropout_needs_no_image(project: Workspace) -> None:
    (project.folder / "mine").rename(project.folder / ".mine")
    output = project.dvc("exp", "run", "-S", "train.dropout=0.4")
    assert executed(output) == ["train", "evaluate", "report"]
    assert f"warning: listing: {project.folder / 'mine'} is not there" in output
    page = (project.folder / "report/index.html").read_text()
    assert "images are not shown: their files are not here, such as mine/" in page


def test_where_images_are_needed_one_line_says_so_and_what_to_do(project: Workspace) -> None:
    output = project.dvc("exp", "run", "-S", "backbone.seed=2", status=255)
    (line,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert "is missing: bring it back, or set data.directory to the folder where the images are" in line
    assert "Traceback" not in output
    project.run("git", "checkout", "--quiet", "params.yaml")


def test_a_clone_without_the_images_varies_the_head(project: Workspace, cache: Path, tmp_path: Path) -> None:
    project.dvc("repro")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "second run")
    project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    shutil.rmtree(project.folder)
    project.folder = tmp_path / "clone"
    project.dvc("config", "--local", "cache.dir", str(cache))
    project.dvc("checkout")
    assert project.experiment("train.dropout=0.3") == ["train", "evaluate", "report"]
