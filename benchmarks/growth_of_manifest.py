"""How time and memory of the manifest stage grow: 200,000 and 1,000,000 images, 32 x 32 pixels, a kilobyte each."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.made_up import write_images
from benchmarks.processes import measure_stage
from benchmarks.timing import Row
from dermoscopy.data.sources.sample import plan
from dermoscopy.runtime.paths import RAW
from dermoscopy.runtime.workspace import make_workspace

COUNTS = (200_000, 1_000_000)


def measure() -> dict[str, list[Row]]:
    return {"The manifest stage": [measure_count(count) for count in COUNTS]}


def measure_count(count: int) -> Row:
    """Return what the manifest of this many images costs."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_workspace(folder, {})
        write_images(folder / RAW, plan(count, seed=1), width=32, height=32)
        cost = measure_stage(folder, "manifest")
    return {
        "images": count,
        "s": cost.seconds,
        "microseconds an image": 1e6 * cost.seconds / count,
        "peak MB": cost.megabytes,
    }
