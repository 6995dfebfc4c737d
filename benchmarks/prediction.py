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
from benchmarks.startup import Imports
from benchmarks.timing import Row, alternate, summarize, timed
from benchmarks.variation import make_project
from dermoscopy.data.sources.sample import plan
from dermoscopy.features.backbones import read_backbone_info
from dermoscopy.features.engines.choice import load_engine
from dermoscopy.model.classifier import predict, read_views, start_keras_for
from dermoscopy.model.head import load_head

IMAGES = 64
SINGLE = 20  # of them, one at a time
ROUNDS = 3
NEW = Path("new")  # in the project


def measure() -> dict[str, list[Row]]:
    with TemporaryDirectory() as temporary:
        project = make_project(Path(temporary), 200, {"backbone": {"weights": "random"}, "train": {"epochs": 1}}).folder
        write_images(project / NEW, plan(200, seed=2).head(IMAGES), width=600, height=450)
        image = str(next((project / NEW / "images").iterdir()))
        processes: dict[str, Callable[[], object]] = {
            "the command, one image": partial(run_python, project, "-m", "tools.predict", image),
            "of that, imports": Imports(project, "tools.predict", image).load,
        }
        seconds = alternate(processes, ROUNDS)
        code = (
            f"from {__name__} import print_parts; print_parts()"  # a process for itself: Keras has one backend in each
        )
        parts = [json.loads(run_python(project, "-c", code)) for _ in range(ROUNDS)]
    seconds |= {name: [value for part in parts for value in part[name]] for name in parts[0]}
    return {"A prediction, InceptionResNetV2": [{"part": name, **summarize(s, "s")} for name, s in seconds.items()]}


def run_python(project: Path, *arguments: str) -> str:
    """Run Python in a project and return what it prints."""
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=project, env=stage_environment(), stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def print_parts() -> None:
    """Print as JSON the seconds of each part of a prediction, in the project that is the working directory."""
    files = sorted((NEW / "images").iterdir())
    size = read_backbone_info().image_size
    keras = start_keras_for("openvino")
    loading = timed(lambda: (load_head(), load_engine("openvino")))
    head, info = load_head()
    engine = load_engine("openvino")

    def classify(chosen: list[Path], tta: bool) -> None:
        predict(engine, keras, head, info.classes, read_views(chosen, info, size, tta))

    classify(files, tta=False)  # once, for what is compiled or allocated at the first call
    seconds = {
        "of that, loading": [loading],
        "decoding and resizing an image": [timed(partial(read_views, [file], info, size, False)) for file in files],
        "an image": [timed(partial(classify, [file], False)) for file in files[:SINGLE]],
        "an image, --tta": [timed(partial(classify, [file], True)) for file in files[:SINGLE]],
        f"{IMAGES} images": [timed(partial(classify, files, False))],
        f"{IMAGES} images, --tta": [timed(partial(classify, files, True))],
    }
    print(json.dumps(seconds))
