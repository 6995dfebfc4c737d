"""The download stage: data/raw appears whole, and what a rerun would need stays until it does."""

from pathlib import Path

import pytest

from dermoscopy.data.sources import archive as archive_module
from dermoscopy.data.sources import kaggle
from dermoscopy.runtime.errors import DiskError
from stages import download
from tests.support.machine import SMALL, build_archive
from tests.support.params_file import write_params


@pytest.fixture
def stocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose archive has been fetched already, so that no client is needed; its images are few."""
    monkeypatch.chdir(tmp_path)
    # The true sizes would need 10,015 images and 9 GB of free disk.
    monkeypatch.setattr(archive_module, "IMAGES", SMALL)
    monkeypatch.setattr(kaggle, "ARCHIVE_BYTES", 0)
    monkeypatch.setattr(kaggle, "EXTRACTED_BYTES", 0)
    archive = download.WORK / kaggle.ARCHIVE
    archive.parent.mkdir(parents=True)
    return build_archive(archive).absolute()


@pytest.mark.parametrize("keep", [False, True])
def test_the_archive_is_removed_unless_it_shall_be_kept(stocked: Path, keep: bool) -> None:
    write_params(Path(), {"data": {"source": "kaggle", "keep_archive": keep}})
    download.main()
    assert len(list((download.RAW / "images").iterdir())) == SMALL
    assert stocked.exists() == keep
    assert sorted(path.name for path in Path("data").iterdir()) == ([".download", "raw"] if keep else ["raw"])


def test_the_archive_stays_if_the_images_cannot_be_put_in_place(stocked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    write_params(Path(), {"data": {"source": "kaggle"}})
    monkeypatch.setattr(Path, "replace", full)  # a full disk cannot be had without rights to mount one
    with pytest.raises(DiskError, match="data/raw needs more than the"):
        download.main()
    assert stocked.exists()
    assert sorted(path.name for path in Path("data").iterdir()) == [".download"]


def test_a_second_download_takes_the_place_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = []
    for seed in (1, 2):
        write_params(Path(), {"data": {"source": "sample", "sample_images": 100, "seed": seed}})
        download.main()
        tables.append((download.RAW / "labels.csv").read_bytes())
        assert len(list((download.RAW / "images").iterdir())) == 100
    assert tables[0] != tables[1]
