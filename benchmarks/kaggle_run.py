"""The main job, end to end: HAM10000 from Kaggle to the report, by one `dvc repro`.

A local server stands for Kaggle and serves an archive in the layout of the real one. Its images are the real ones at
224 x 224 pixels, as JPEGs of some 14 kB, so that the archive has a twentieth of the real one's 5.6 GB and comes at
once: the time of a real download is that of the network. The backbone is MobileNetV2 with its ImageNet weights.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from benchmarks.kaggle_archive import write_archive
from benchmarks.kaggle_server import KaggleServer, meet
from benchmarks.processes import Line, measured, stage_seconds, timed_lines
from benchmarks.real_data import HAM10000, MOBILENET, require_real_data
from benchmarks.timing import Row
from benchmarks.workspace import Workspace
from dermoscopy.data.images import configure_image_libraries
from dermoscopy.data.sources.archive import METADATA
from dermoscopy.data.sources.kaggle import DATASET
from dermoscopy.runtime.paths import CHUNKS, FEATURES, RAW
from dermoscopy.scoring.metrics import HEADLINES

FIRST_PART = 5_000  # images in the first folder of the real archive
QUALITY = 95


class KaggleRun:
    """A project that fetches HAM10000 from a local server.

    Attributes:
        server: the local one, which must be running.
        workspace: the project.
        cache: of DVC.
    """

    def __init__(self, folder: Path, server: KaggleServer) -> None:
        """Make the project in a folder, with the default params but for the source and the backbone."""
        self.server = server
        self.cache = folder / "cache"
        changes = {"data": {"source": "kaggle"}, "backbone": MOBILENET}
        self.workspace = Workspace(folder / "project", self.cache, changes)

    def repro(self) -> list[Line]:
        """Run `dvc repro`, measured; return the lines of its output, as `timed_lines` does."""
        size = self.server.archive.stat().st_size
        environment = {
            **meet(self.workspace.folder, endpoint=self.server.endpoint, archive_bytes=size, extracted_bytes=size // 2),
            "KAGGLE_API_TOKEN": self.server.token,  # which goes before any other credentials of this machine
            "NO_PROXY": "localhost,127.0.0.1",
            "no_proxy": "localhost,127.0.0.1",
        }
        command = measured([sys.executable, "-m", "dvc", "repro"])
        return timed_lines(command, self.workspace.folder, environment)


def measure() -> dict[str, list[Row]]:
    """Return what a run takes: seconds, disk, memory; and its metrics.

    Raises:
        PipelineError: the real images or weights are not beside the checkout.
    """
    require_real_data()
    with TemporaryDirectory() as name:
        folder = Path(name)
        with KaggleServer(write_real_archive(folder / "archive.zip"), DATASET) as server:
            run = KaggleRun(folder, server)
            lines = run.repro()
        return {
            "HAM10000 from a local Kaggle server to the report, MobileNetV2: dvc repro": describe_time(lines),
            "Its disk": describe_disk(run),
            "Its memory": [{"process": "the largest of all", "peak MB": int(lines[-2][1]) / 1000}],
            "Its metrics": describe_metrics(run.workspace),
        }


def write_real_archive(path: Path) -> Path:
    """Write the archive of the real images and their label table; return its path."""
    configure_image_libraries()
    files = sorted((HAM10000 / "images").iterdir())
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        images = dict(zip([file.stem for file in files], threads.map(as_jpeg, files), strict=True))
    return write_archive(path, (HAM10000 / METADATA).read_bytes(), images, FIRST_PART)


def as_jpeg(file: Path) -> bytes:
    """Return an image as a JPEG."""
    pixels = cv2.imread(str(file))
    assert pixels is not None, file
    ok, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    assert ok, file
    return jpeg.tobytes()


def describe_time(lines: Sequence[Line]) -> list[Row]:
    """Return a row for each stage, for DVC itself, and for all of it."""
    stages, total = stage_seconds(lines), lines[-1][0]
    parts = {**stages, "DVC": total - sum(stages.values()), "in all": total}
    return [{"part": part, "s": seconds} for part, seconds in parts.items()]


def describe_disk(run: KaggleRun) -> list[Row]:
    """Return the room that each part takes, in megabytes of 10^6 bytes.

    A file that DVC has linked, and not copied, from its cache into the project takes its room once in all.
    """
    project = run.workspace.folder
    parts = {
        "the archive, deleted once data/raw is whole": [run.server.archive],
        str(RAW): [project / RAW],
        str(FEATURES): [project / FEATURES],
        f"{CHUNKS}, from which an interrupted run resumes": [project / CHUNKS],
        "DVC's cache": [run.cache],
        "project and cache, in all": [project, run.cache],
    }
    return [{"what": what, "MB": room(paths) / 1e6} for what, paths in parts.items()]


def room(paths: Iterable[Path]) -> int:
    """Return the bytes that files and folders take on disk; a file with several names counts once."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    blocks = {(status.st_dev, status.st_ino): status.st_blocks for status in (file.lstat() for file in files)}
    return 512 * sum(blocks.values())


def describe_metrics(workspace: Workspace) -> list[Row]:
    """Return a row for each part: the number of images, and the headline metrics with their intervals."""
    rows: list[Row] = []
    for part, values in workspace.metrics().items():
        row: Row = {"part": part, "images": values["support"]}
        for name in HEADLINES:
            low, high = values[f"{name}_ci"]
            row |= {name: values[name], f"{name}, low": low, f"{name}, high": high}
        rows.append(row)
    return rows
