"""How long a prediction takes: tools.predict with InceptionResNetV2 at 224 pixels, the command and its parts."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.made_up import write_images
from benchmarks.processes import stage_environment
from benchmarks.startup import Imports, import_tensorflow
from benchmarks.timing import Row, alternate, summarize, timed
from benchmarks.variation import make_finished_project
from dermoscopy.data.images import configure_image_libraries, read_image
from dermoscopy.data.sources.sample import plan
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.finetuned import final_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.model.classifier import Classifier

IMAGES = 64
SINGLE = 20  # how many of them are also predicted one at a time
ROUNDS = 3
NEW = Path("new")  # their folder in the project


def measure() -> dict[str, list[Row]]:
    with TemporaryDirectory() as temporary:
        project = make_finished_project(
            Path(temporary), 200, {"backbone": {"weights": "random"}, "train": {"epochs": 1}}
        ).folder
        write_images(project / NEW, plan(200, seed=2).head(IMAGES), width=600, height=450)
        image = str(next((project / NEW / "images").iterdir()))
        processes: dict[str, Callable[[], object]] = {
            "the command, one image": partial(run_python, project, "-m", "tools.predict", "--no-tta", image),
            "of that, imports": Imports(project, "tools.predict", "--no-tta", image).load,
            "import tensorflow, for comparison": import_tensorflow,
        }
        seconds = alternate(processes, ROUNDS)
        # in a process of its own, which has loaded nothing yet
        code = f"from {__name__} import print_parts; print_parts()"
        parts = [json.loads(run_python(project, "-c", code)) for _ in range(ROUNDS)]
    seconds |= {name: [value for part in parts for value in part[name]] for name in parts[0]}
    return {
        "A prediction, InceptionResNetV2": [
            {"part": name, **summarize(values, "s")} for name, values in seconds.items()
        ]
    }


def run_python(project: Path, *arguments: str) -> str:
    """Run Python in a project and return what it prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=project, env=stage_environment(), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def print_parts() -> None:
    """Print as JSON the seconds of each part of a prediction, in the project that is the working directory."""
    configure_image_libraries()
    files = sorted((NEW / "images").iterdir())
    size = read_backbone_info(final_backbone()).side
    loading = timed(Classifier)
    classifier = Classifier()

    def predict(chosen: list[Path], tta: bool) -> None:
        list(classifier.predict_files(chosen, tta))

    def prepare(file: Path) -> None:
        render_views(read_image(file), [Warp()], size)

    predict(files, tta=False)  # once, for what is compiled or allocated at the first call
    seconds = {
        "of that, loading": [loading],
        "decoding and resizing an image": [timed(partial(prepare, file)) for file in files],
        "an image": [timed(partial(predict, [file], False)) for file in files[:SINGLE]],
        "an image, --tta": [timed(partial(predict, [file], True)) for file in files[:SINGLE]],
        f"{IMAGES} images": [timed(partial(predict, files, False))],
        f"{IMAGES} images, --tta": [timed(partial(predict, files, True))],
    }
    print(json.dumps(seconds))
