"""The download stage: data/raw appears whole, what a rerun would need stays until then, and nothing comes twice."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.workspace import executed
from dermoscopy.data.sources import archive as source
from dermoscopy.data.sources import kaggle, sample
from dermoscopy.data.sources.archive import is_whole
from dermoscopy.runtime.commands import sections_of
from dermoscopy.runtime.errors import DiskError
from dermoscopy.runtime.paths import DOWNLOADS, RAW
from dermoscopy.runtime.workspace import environment, make_workspace
from stages import download
from tests.support.machine import DONE, IMAGE_IDS, SMALL, WHOLE, Machine
from tests.support.params_file import write_params


def run_download(**params: Any) -> None:
    """Run the stage in this process and folder, with some of its params changed."""
    write_params(Path(), {"data": params})
    download.main(**sections_of(download.main))


def files(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    """Return the content of each file, and which file that is: a file written anew is another one."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestInThisProcess:
    """With an archive that is there already, so that no client is needed."""

    @pytest.fixture(autouse=True)
    def project(self, stocked: Machine, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A project, in which this process runs, with an archive; the server is asked for nothing."""
        shutil.copy(archive, stocked.archive)
        stocked.destination.rmdir()
        monkeypatch.chdir(stocked.project)
        yield
        assert stocked.server.requests == []

    @pytest.fixture
    def fetched(self) -> dict[str, tuple[bytes, int, int]]:
        """data/raw from Kaggle: the files in it."""
        run_download(source="kaggle")
        return files(RAW)

    @pytest.fixture
    def images(self, tmp_path: Path) -> Path:
        """A folder of one image with a label, for the source `directory`."""
        folder = tmp_path / "my images"
        folder.mkdir()
        (folder / "one.jpg").touch()
        (folder / "labels.csv").write_text("image_id,dx\none,nv\n")
        return folder

    def test_the_archive_is_deleted_when_the_images_stand(self, fetched: dict[str, Any]) -> None:
        assert len(fetched) == SMALL + 1
        assert names(Path("data")) == ["raw"]

    def test_the_archive_stays_if_the_images_cannot_be_put_in_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(path: Path, target: Path) -> Path:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", full)  # a full disk cannot be had without rights to mount one
        with pytest.raises(DiskError, match="data/raw needs more than the"):
            run_download(source="kaggle")
        assert (DOWNLOADS / kaggle.ARCHIVE).exists()
        assert names(Path("data")) == [".download"]

    @pytest.mark.parametrize("params", [{}, {"seed": 7, "sample_images": 500, "directory": "elsewhere"}], ids=str)
    def test_data_that_are_whole_are_left_alone(
        self, fetched: dict[str, Any], params: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        capsys.readouterr()
        run_download(source="kaggle", **params)
        assert files(RAW) == fetched
        assert capsys.readouterr().out == WHOLE

    def test_another_source_sets_them_aside_and_kaggle_takes_them_back(
        self, fetched: dict[str, Any], images: Path
    ) -> None:
        for _ in range(2):  # the second time, what is set aside stays so
            run_download(source="directory", directory=str(images))
            assert names(RAW) == ["README"]
            assert files(DOWNLOADS / "kaggle") == fetched
        run_download(source="kaggle")
        assert files(RAW) == fetched
        assert not DOWNLOADS.exists()

    def test_a_source_that_fails_costs_none_of_them(
        self, fetched: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(download.FETCH, "sample", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_download(source="sample")
        run_download(source="kaggle")
        assert files(RAW) == fetched

    def test_killed_while_they_are_taken_back_they_are_taken_back_by_the_next_run(
        self, fetched: dict[str, Any], images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_download(source="directory", directory=str(images))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run_download(source="kaggle")
        assert not RAW.exists()
        run_download(source="kaggle")
        assert files(RAW) == fetched

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda: (RAW / f"images/{IMAGE_IDS[3]}.jpg").unlink(),
            lambda: (RAW / f"images/{IMAGE_IDS[3]}.jpg").write_bytes(b""),
            lambda: (RAW / f"images/{IMAGE_IDS[3]}.jpg").rename(RAW / "images/ISIC_9999999.jpg"),
            lambda: (RAW / "images/ISIC_9999999.jpg").write_bytes(b"one more"),
            lambda: shutil.rmtree(RAW / "images"),
            lambda: (RAW / "labels.csv").unlink(),
            lambda: (RAW / "labels.csv").write_bytes(b""),
            lambda: (RAW / "labels.csv").write_bytes(b"\xff\xfe\0"),
            lambda: (RAW / "labels.csv").write_text("image_id,dx\nISIC_0024306,nv\n"),
            lambda: shutil.rmtree(RAW),
        ],
        ids=[
            *("an image lost", "an image empty", "an image renamed", "one more image", "no images"),
            *("no labels", "labels empty", "labels not text", "few labels", "nothing"),
        ],
    )
    def test_what_is_not_whole_is_seen(self, fetched: dict[str, Any], spoil: Callable[[], object]) -> None:
        assert is_whole(RAW)
        spoil()
        assert not is_whole(RAW)


def test_drawn_images_are_not_taken_for_those_of_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "IMAGES", 100)
    labels = sample.plan(100, seed=1)
    labels.to_csv(tmp_path / "labels.csv", index=False)
    (tmp_path / "images").mkdir()
    for image_id in labels["image_id"]:
        (tmp_path / f"images/{image_id}.jpg").write_bytes(b"drawn")
    assert not is_whole(tmp_path)


class TestKaggle:
    """Against a real server, with the real client in a process of its own."""

    def test_data_that_are_whole_are_left_alone_without_a_request(self, machine: Machine) -> None:
        machine.assert_fetched()
        before, asked = files(machine.destination), len(machine.server.requests)
        machine.params |= {"seed": 7, "sample_images": 500, "directory": "elsewhere"}
        assert machine.fetch() == (0, WHOLE, "")
        assert len(machine.server.requests) == asked
        assert files(machine.destination) == before

    @pytest.mark.slow
    def test_drawn_images_in_between_cost_no_request(self, machine: Machine) -> None:
        machine.assert_fetched()
        before, asked = files(machine.destination), len(machine.server.requests)
        machine.params |= {"source": "sample", "sample_images": 100}
        code, out, _ = machine.fetch()
        assert (code, out) == (0, "download: sample data are in data/raw\n")
        assert len(list((machine.destination / "images").iterdir())) == 100
        machine.params["source"] = "kaggle"
        assert machine.fetch() == (0, WHOLE, "")
        assert len(machine.server.requests) == asked
        assert files(machine.destination) == before

    @pytest.mark.slow
    @pytest.mark.parametrize("lost", [True, False], ids=["lost", "empty"])
    def test_an_image_that_is_lost_or_empty_is_fetched_again_with_all_others(
        self, machine: Machine, lost: bool
    ) -> None:
        machine.assert_fetched()
        path = machine.destination / f"images/{IMAGE_IDS[3]}.jpg"
        before, sent = path.read_bytes(), machine.server.bytes_sent
        if lost:
            path.unlink()
        else:
            path.write_bytes(b"")
        machine.assert_fetched()
        assert path.read_bytes() == before
        assert machine.server.bytes_sent >= 2 * sent - 2**20

    @pytest.mark.slow
    def test_dvc_runs_the_stage_again_after_a_change_of_code_and_the_server_is_not_asked(
        self, machine: Machine, tmp_path: Path
    ) -> None:
        workspace = tmp_path / "workspace"
        make_workspace(workspace, {"data": machine.params})
        (workspace / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")

        def repro() -> str:
            result = subprocess.run(
                [sys.executable, "-m", "dvc", "repro", "download"],
                cwd=workspace,
                env=environment() | machine.settings(workspace) | {"PATH": environment()["PATH"]},
                capture_output=True,
                text=True,
                check=False,
            )
            assert result.returncode == 0, result.stderr
            return result.stdout

        assert DONE in repro()
        before, asked = files(workspace / "data/raw"), len(machine.server.requests)
        assert len(before) == SMALL + 1
        with (workspace / "dermoscopy/data/sources/sample.py").open("a", encoding="utf-8") as module:
            module.write("# another line\n")
        write_params(workspace, {"data": machine.params | {"seed": 77}})
        output = repro()
        assert executed(output) == ["download"]
        assert WHOLE in output
        assert len(machine.server.requests) == asked
        assert {name: content for name, (content, _, _) in files(workspace / "data/raw").items()} == {
            name: content for name, (content, _, _) in before.items()
        }
        assert executed(repro()) == []
