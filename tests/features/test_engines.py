"""Engines: the same features from all, whatever else is in the batch, and which of them is taken."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.workers import Worker
from dermoscopy.data.images import read_image
from dermoscopy.features.engines import choice
from dermoscopy.features.engines.choice import Engine, choose_engine, engine_identity, load_engine
from dermoscopy.features.engines.keras_engine import KerasEngine
from dermoscopy.features.networks import build_backbone, write_backbone
from dermoscopy.features.views import Warp, render_views
from dermoscopy.runtime.errors import BackboneError, ParamsError, PipelineError
from dermoscopy.runtime.keras_start import Backend
from dermoscopy.runtime.params import EngineName, Precision
from dermoscopy.runtime.workspace import PROJECT

NAMES: tuple[EngineName, ...] = ("openvino", "tensorflow")
ON_ANY_PROCESSOR = 1e-4  # what engines may differ by, in float32
BFLOAT16 = (1e-3, 0.05)  # from what it must differ by, where it is used at all, to what it may


def render(photographs: list[NDArray[np.uint8]], size: int) -> list[NDArray[np.uint8]]:
    """Return photographs as squares."""
    return [render_views(pixels, [Warp()], size)[0] for pixels in photographs]


@pytest.fixture(scope="module")
def images(photographs: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Seven, of the size of `backbones`."""
    return render(list(photographs.values()), 64)


@pytest.fixture(scope="module")
def engines(backbones: dict[str, Path]) -> dict[str, Engine]:
    return {name: load_engine(name, backbones["first"]) for name in NAMES}


@pytest.fixture(scope="module")
def jax(backbones: dict[str, Path]) -> Iterator[Worker[Engine]]:
    """Keras on JAX, in a process of its own: in this one Keras runs on TensorFlow."""
    with closing(Worker(load_engine, "jax", backbones["first"])) as worker:
        yield worker


def error_of(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> float:
    """Return the greatest relative error of the features of an image, by norm and by the greatest number."""
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    error = np.abs(ours - theirs)
    by_norm = np.linalg.norm(error, axis=1) / np.linalg.norm(theirs, axis=1)
    return float(max(by_norm.max(), (error.max(axis=1) / np.abs(theirs).max(axis=1)).max()))


def compute_by_two_threads(engine: Engine, images: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """Return the features of the images, and of more than a batch of them in another order."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda chosen: engine.compute(chosen, len(chosen)), [images, images[::-1] * 9]))


def test_all_engines_give_the_same_features(engines: dict[str, Engine], images: list[NDArray[np.uint8]]) -> None:
    ours, theirs = (engines[name].compute(images, len(images)) for name in NAMES)
    assert ours.shape == (len(images), 1280)
    assert error_of(ours, theirs) < ON_ANY_PROCESSOR
    of_another_image = engines["tensorflow"].compute(images[1:2], 1)
    assert np.linalg.norm(ours[0] - of_another_image) > 1e-3 * np.linalg.norm(ours[0])  # what agrees is not a constant


@pytest.mark.slow
def test_keras_on_jax_gives_the_same_features_in_any_order_and_number(
    engines: dict[str, Engine], jax: Worker[Engine], images: list[NDArray[np.uint8]]
) -> None:
    expected = engines["tensorflow"].compute(images, len(images))
    first, backwards = jax.call(compute_by_two_threads, images)
    assert error_of(first, expected) < ON_ANY_PROCESSOR
    assert error_of(backwards, np.tile(expected[::-1], (9, 1))) < ON_ANY_PROCESSOR
    assert error_of(jax.call(compute_one, images[3]), expected[3:4]) < ON_ANY_PROCESSOR


def compute_one(engine: Engine, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    return engine.compute([image], 1)


def test_two_threads_may_use_one_engine_of_keras(engines: dict[str, Engine], images: list[NDArray[np.uint8]]) -> None:
    expected = engines["tensorflow"].compute(images, len(images))
    first, backwards = compute_by_two_threads(engines["tensorflow"], images)
    assert error_of(first, expected) < 1e-5
    assert error_of(backwards, np.tile(expected[::-1], (9, 1))) < 1e-5


@pytest.mark.slow
def test_real_weights_tell_real_images_apart_on_all_engines_alike(
    isic: Path, mobilenet_weights: Path, tmp_path: Path
) -> None:
    write_backbone(build_backbone("MobileNetV2", str(mobilenet_weights), 224), "MobileNetV2", tmp_path)
    paths = sorted((isic / "images").iterdir())[:6]
    images = render([read_image(path) for path in paths], 224)
    ours, theirs = (load_engine(name, tmp_path).compute(images, 6) for name in NAMES)
    assert error_of(ours, theirs) < ON_ANY_PROCESSOR
    with closing(Worker(load_engine, "jax", tmp_path)) as worker:
        assert error_of(worker.call(compute_by_two_threads, images)[0], theirs) < ON_ANY_PROCESSOR
    for number in range(1, 6):
        assert np.linalg.norm(ours[number] - ours[0]) > 0.1 * np.linalg.norm(ours[0])


@pytest.mark.parametrize(("name", "tolerance"), [("openvino", 0), ("tensorflow", 1e-5)])
def test_features_do_not_depend_on_order_or_count(
    engines: dict[str, Engine], images: list[NDArray[np.uint8]], name: EngineName, tolerance: float
) -> None:
    engine = engines[name]
    features = engine.compute(images, len(images))
    allowed = tolerance * np.abs(features).max()
    order = [5, 1, 1, 0, 3, 2, 6, 4] * 5  # more than a batch
    again = engine.compute((images[number] for number in order), len(order))
    assert np.abs(again - features[order]).max() <= allowed
    assert np.abs(engine.compute(images[2:3], 1) - features[2:3]).max() <= allowed


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_bfloat16_changes_the_features_a_little_and_their_type_not_at_all(
    backbones: dict[str, Path], engines: dict[str, Engine], images: list[NDArray[np.uint8]], backend: Backend
) -> None:
    expected = engines["tensorflow"].compute(images, len(images))
    with closing(Worker(KerasEngine, backbones["first"], backend, "bfloat16")) as worker:
        features = worker.call(KerasEngine.compute, images, len(images))
    least, most = BFLOAT16
    assert least < error_of(features, expected) < most


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_engine_may_be_given_fewer_threads(
    backbones: dict[str, Path], engines: dict[str, Engine], images: list[NDArray[np.uint8]], name: EngineName
) -> None:
    expected = engines[name].compute(images, len(images))
    with closing(Worker(load_engine, name, backbones["first"], "float32", 1)) as worker:
        features, threads = worker.call(features_and_threads, images)
    assert error_of(features, expected) < 1e-5
    assert threads == 1


def features_and_threads(engine: Any, images: list[NDArray[np.uint8]]) -> tuple[NDArray[np.float32], int]:
    """Return the features, and how many threads an engine says that it uses."""
    features = engine.compute(images, len(images))
    if isinstance(engine, KerasEngine):
        import tensorflow as tf

        return features, tf.config.threading.get_intra_op_parallelism_threads()
    import openvino

    return features, openvino.Core().get_property("CPU", "INFERENCE_NUM_THREADS") or len(engine._queue)


def test_an_engine_that_fails_on_its_way_can_be_used_again(
    engines: dict[str, Engine], images: list[NDArray[np.uint8]]
) -> None:
    def damaged() -> Iterator[NDArray[np.uint8]]:
        yield from images[:3]
        raise PipelineError("damaged")

    for engine in engines.values():
        expected = engine.compute(images, len(images))
        with pytest.raises(PipelineError, match="damaged"):
            engine.compute(damaged(), len(images))
        assert np.array_equal(engine.compute(images, len(images)), expected)


@pytest.mark.parametrize("name", [*NAMES, "jax"])
def test_an_engine_asked_for_by_name_is_taken(name: EngineName) -> None:
    assert choose_engine(name) == name


def test_an_engine_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # or it may be there, as make bench needs it
    with pytest.raises(PipelineError, match=r"features\.engine=torch, but torch is not installed: docs/gpu.md says"):
        choose_engine("torch")


def test_auto_is_openvino_where_no_gpu_is_visible_and_imports_no_backend_to_know_it() -> None:
    code = (
        "import sys\n"
        "from dermoscopy.features.engines.choice import choose_engine\n"
        "backends = {'keras', 'tensorflow', 'jax', 'torch'}\n"
        "print(choose_engine('auto'), sorted(backends & sys.modules.keys()))"
    )
    assert run_python(code, CUDA_VISIBLE_DEVICES="-1") == "openvino []"


@pytest.mark.parametrize(
    ("seen_by", "expected"),
    [
        ({"jax": None, "torch": None, "tensorflow": "GPU"}, "tensorflow"),
        ({"jax": "GPU", "torch": "GPU", "tensorflow": "GPU"}, "jax"),
        ({"jax": None, "torch": None, "tensorflow": None}, "openvino"),
    ],
)
def test_auto_is_the_first_installed_backend_that_sees_a_gpu(
    monkeypatch: pytest.MonkeyPatch, seen_by: dict[str, str | None], expected: str
) -> None:
    # machines that run tests have no GPU
    monkeypatch.setattr(choice, "driver_has_gpu", lambda: True)
    monkeypatch.setattr(choice, "gpu_name", seen_by.get)
    choice._fastest.cache_clear()
    assert choose_engine("auto") == expected
    choice._fastest.cache_clear()


def test_auto_passes_over_a_backend_that_is_broken_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(backend: Backend) -> str | None:
        if backend == "jax":
            raise PipelineError("jax is broken")
        return "GPU" if backend == "tensorflow" else None

    monkeypatch.setattr(choice, "driver_has_gpu", lambda: True)
    monkeypatch.setattr(choice, "gpu_name", ask)
    choice._fastest.cache_clear()
    assert [choose_engine("auto"), choose_engine("auto")] == ["tensorflow"] * 2
    assert capsys.readouterr().err == "warning: jax is broken\n"
    choice._fastest.cache_clear()


def test_a_gpu_without_room_is_one_line(backbones: dict[str, Path], images: list[NDArray[np.uint8]]) -> None:
    engine = KerasEngine(backbones["first"], "tensorflow")

    def fail(batch: NDArray[np.uint8]) -> None:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 64 bytes")

    engine.infer = fail
    with pytest.raises(BackboneError, match="the GPU has too little free memory"):
        engine.compute(images, len(images))


@pytest.mark.parametrize("gpus", [0, 1])
def test_the_driver_of_the_gpu_is_asked_itself(tmp_path: Path, gpus: int) -> None:
    source = tmp_path / "driver.c"
    source.write_text(
        "int cuInit(unsigned flags) { return 0; }\n"
        f"int cuDeviceGetCount(int *count) {{ *count = {gpus}; return 0; }}\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)  # noqa: S607 - the system's
    code = "from dermoscopy.features.engines.devices import driver_has_gpu; print(driver_has_gpu())"
    assert run_python(code, LD_LIBRARY_PATH=str(tmp_path)) == str(gpus > 0)


def run_python(code: str, **variables: str) -> str:
    """Return what code prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.mark.parametrize("name", get_args(EngineName)[:-1])
def test_an_identity_names_engine_versions_and_device(name: EngineName) -> None:
    compiler = f"jaxlib {version('jaxlib')}, " if name == "jax" else ""
    assert engine_identity(name) == f"{name} {version(name)}, {compiler}keras {version('keras')}, CPU"


def test_a_precision_is_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "gpu_name", lambda backend: "H200")  # machines that run tests have no GPU
    identities = {precision: engine_identity("jax", precision) for precision in get_args(Precision)}
    assert identities["float32"].endswith(", H200")
    assert identities["tf32"] == identities["float32"] + ", tf32"
    assert identities["bfloat16"] == identities["float32"] + ", bfloat16"


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_a_precision_for_gpus_is_refused_where_the_engine_has_none(
    backbones: dict[str, Path], name: EngineName, precision: Precision
) -> None:
    message = f"features.precision={precision} needs a GPU, and {name} has none here: set features.precision=float32"
    with pytest.raises(ParamsError, match=message):
        engine_identity(name, precision)
    with pytest.raises(ParamsError, match=message):
        load_engine(name, backbones["first"], precision)
