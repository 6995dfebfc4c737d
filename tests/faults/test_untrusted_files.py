"""Nothing that a user, or whoever gave the user a file, can supply is ever executed."""

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermoscopy.features.backbones import hash_files, read_backbone_info
from dermoscopy.features.chunks import ViewChunks
from dermoscopy.features.store import FeatureReader, FeaturesInfo, sealed, view_file
from dermoscopy.model.head import load_head
from dermoscopy.model.head_info import HeadInfo
from dermoscopy.runtime.errors import BackboneError, DataError
from dermoscopy.runtime.workspace import PROJECT, environment
from tests.support.feature_folder import write_feature_folder
from tests.support.params_file import PARAMS
from tests.support.stage_project import make_project, use_backbone

MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
METHODS = {"read_pickle", "to_pickle", "enable_unsafe_deserialization", "system", "popen"}
TORCH = {"load", "hub", "jit", "package"}  # of PyTorch, which unpickle what they read
PYYAML = {"safe_load", "safe_load_all", "safe_dump", "safe_dump_all", "YAMLError"}  # and nothing else of it
HEAD = HeadInfo(
    classes=["mel", "nv"], prior=[0.5, 0.5], class_weights=[1, 1], backbone="0", augmentation=PARAMS.augmentation
)
KEYWORDS = {("allow_pickle", True), ("shell", True), ("safe_mode", False), ("typ", "unsafe"), ("typ", "full")}


def dangers(source: str) -> set[str]:
    """Return what in a source can execute what it is given to read."""
    nodes = list(ast.walk(ast.parse(source)))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found = {name.split(".")[0] for name in imported} & MODULES
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found |= ({(node.module or "").split(".")[0]} & MODULES) | (names & METHODS)
            found |= names - PYYAML if node.module == "yaml" else set()
            found |= names & TORCH if node.module == "torch" else set()
        elif isinstance(node, ast.Attribute):
            found |= {node.attr} & METHODS
            found |= {node.attr} & TORCH if ast.unparse(node.value) == "torch" else set()
            found |= {node.attr} - PYYAML if "yaml" in imported and ast.unparse(node.value) == "yaml" else set()
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords: dict[str | None, Any] = {
                word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)
            }
            found |= {name.removeprefix("builtins.")} & BUILTINS
            found |= {f"{key}={value}" for key, value in keywords.items() if (key, value) in KEYWORDS}
            if name.split(".")[-1] == "load_model" and keywords.get("safe_mode") is not True:
                found.add("load_model without safe_mode=True")
    return found


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from joblib import load", "import marshal", "import shelve"),
        *("import torch; torch.load(path)", "torch.hub.load(name)", "from torch import jit"),
        *("eval(text)", "exec(text)", "builtins.exec(text)", "compile(text, '', 'exec')", "__import__(name)"),
        *("import yaml; yaml.load(text, yaml.SafeLoader)", "import yaml; yaml.unsafe_load(text)"),
        *("import yaml\nclass L(yaml.Loader): ...", "from yaml import UnsafeLoader", "YAML(typ='unsafe').load(text)"),
        *("np.load(path, allow_pickle=True)", "pd.read_pickle(path)", "os.system(text)"),
        *("keras.models.load_model(path)", "load_model(path, safe_mode=False)"),
        *("keras.config.enable_unsafe_deserialization()", "subprocess.run(text, shell=True)"),
    ],
)
def test_what_executes_its_input_is_found_in_a_source(source: str) -> None:
    assert dangers(source)


@pytest.mark.parametrize(
    "path",
    [path for folder in ("dermoscopy", "stages", "tools") for path in sorted((PROJECT / folder).rglob("*.py"))],
    ids=lambda path: path.relative_to(PROJECT).as_posix(),
)
def test_no_source_executes_its_input(path: Path) -> None:
    assert dangers(path.read_text(encoding="utf-8")) == set()


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that is there when a payload was executed."""
    return tmp_path / "executed"


@pytest.fixture
def lambda_model(keras: Any, mark: Path) -> Any:
    """A model with a layer of code that creates the mark."""
    # a lambda travels as byte code, so it must not close over anything; Keras calls it to learn its output's shape
    code = f"lambda x: (__import__('pathlib').Path({str(mark)!r}).touch(), x)[1]"
    function = eval(code)  # noqa: S307 - this is the attack
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(function)])
    mark.unlink()
    return model


def pickled(mark: Path) -> Any:
    """Return an array whose content is a payload, which NumPy stores as a pickle."""
    array = np.empty(1, object)
    array[0] = Payload(mark)
    return array


def head_of_pickled_arrays(mark: Path, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, mean=pickled(mark), deviation=np.ones(4), kernel=np.ones((4, 2)), bias=np.ones(2))


def head_that_is_one_pickled_array(mark: Path, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, pickled(mark))


def head_that_is_a_pickle(mark: Path, path: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(mark)))


HOSTILE_HEADS = [head_of_pickled_arrays, head_that_is_one_pickled_array, head_that_is_a_pickle]


@pytest.mark.parametrize("write", HOSTILE_HEADS)
def test_a_hostile_head_is_refused_and_not_executed(
    mark: Path, tmp_path: Path, write: Callable[[Path, Path], None]
) -> None:
    head, info = tmp_path / "head.npz", tmp_path / "head.json"
    info.write_text(HEAD.model_dump_json())
    write(mark, head)
    with pytest.raises(DataError, match="no trained head can be read"):
        load_head(head, info)
    assert not mark.exists()


def test_the_payloads_work_where_nothing_refuses_them(
    keras: Any, lambda_model: Any, mark: Path, tmp_path: Path
) -> None:
    lambda_model.save(tmp_path / "lambda.keras")
    mark.unlink(missing_ok=True)  # saving calls the layer
    keras.models.load_model(tmp_path / "lambda.keras", safe_mode=False)
    assert mark.exists()
    for write in HOSTILE_HEADS:
        mark.unlink()
        write(mark, tmp_path / "head.npz")
        loaded = np.load(tmp_path / "head.npz", allow_pickle=True)
        if isinstance(loaded, np.lib.npyio.NpzFile):
            loaded["mean"]
        assert mark.exists()


@pytest.mark.slow
def test_predict_refuses_a_hostile_head_in_one_line(mark: Path, backbones: dict[str, Path], tmp_path: Path) -> None:
    make_project(tmp_path, backbones["first"], images=1)
    head_of_pickled_arrays(mark, tmp_path / "models/head.npz")
    (tmp_path / "models/head.json").write_text(HEAD.model_dump_json())
    command = [sys.executable, "-m", "tools.predict", "data/raw/images"]
    environ = environment() | {"PYTHONPATH": str(PROJECT)}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert [line[:40] for line in result.stderr.splitlines()] == ["error: no trained head can be read from "]
    assert not mark.exists()


def test_a_hostile_backbone_is_refused_and_not_executed(
    keras: Any, lambda_model: Any, mark: Path, backbones: dict[str, Path], tmp_path: Path
) -> None:
    use_backbone(tmp_path, backbones["first"])
    folder = tmp_path / "models/backbone"
    (folder / "architecture.json").write_text(lambda_model.to_json())
    # who forges a file forges its digest too
    info = read_backbone_info(folder)
    forged = info.model_copy(update={"files": {name: hash_files(folder)[name] for name in info.files}})
    (folder / "backbone.json").write_text(forged.model_dump_json())
    from dermoscopy.features.networks import load_backbone

    with pytest.raises(BackboneError, match="cannot be read"):
        load_backbone(folder)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["npy", "npz", "pickle"])
def test_a_pickle_in_the_features_is_refused_and_not_executed(tmp_path: Path, mark: Path, kind: str) -> None:
    folder = tmp_path / "features"
    write_feature_folder(folder, np.ones((3, 2, 4), np.float32))
    write_pickle(view_file(folder, 1), mark, kind)
    info = FeaturesInfo.model_validate_json((folder / "features.json").read_text())
    (folder / "features.json").write_text(sealed(info, folder).model_dump_json())  # who forges a file forges this too
    with pytest.raises(DataError, match="contradict each other"):
        FeatureReader(folder)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["npy", "npz", "pickle"])
def test_a_pickle_among_the_chunks_is_dropped_and_not_executed(tmp_path: Path, mark: Path, kind: str) -> None:
    chunk = tmp_path / "chunks" / "0" / "any.chunk"
    chunk.parent.mkdir(parents=True)
    write_pickle(chunk, mark, kind)
    view = ViewChunks(tmp_path / "chunks", "0", [os.urandom(32)], (4,))
    assert 0 not in view
    assert not chunk.exists()
    assert not mark.exists()


def write_pickle(path: Path, mark: Path, kind: str) -> None:
    """Write an object that executes code when it is unpickled, in a file of numpy's or bare."""
    payload = np.empty(1, object)
    payload[0] = Payload(mark)
    with path.open("wb") as file:
        if kind == "npy":
            np.save(file, payload, allow_pickle=True)
        elif kind == "npz":
            np.savez(file, payload)
        else:
            pickle.dump(Payload(mark), file)
