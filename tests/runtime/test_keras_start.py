"""Keras starts with our settings whatever the user has configured, each time in a process of its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest

from dermoscopy.runtime.errors import PipelineError
from dermoscopy.runtime.keras_start import Backend, start_keras
from dermoscopy.runtime.workspace import PROJECT

# JAX is one of requirements-dev.txt; PyTorch is there where make bench needs it.
BACKENDS = [name for name in get_args(Backend) if find_spec(name)]
OURS = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "policy": "float32",
    "layer": "float32",
    "weights": "float32",
    "max_epochs": None,
    "max_steps": None,
    "nnx": False,
}
THEIRS = {"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first", "backend": "jax"}
VARIABLES = {
    "TF_USE_LEGACY_KERAS": "1",
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "1",
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "NVIDIA_TF32_OVERRIDE": "1",
}

START = """
import json
import sys
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.keras_start import start_keras

def main():
    backend = sys.argv[1]
    start_keras(1, backend)
    import keras
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    print(json.dumps({
        "backend": keras.config.backend(),
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "policy": keras.config.dtype_policy().name,
        "layer": layer.dtype_policy.name,
        "weights": layer.kernel.dtype,
        "max_epochs": keras.config.max_epochs(),
        "max_steps": keras.config.max_steps_per_epoch(),
        "nnx": keras.config.is_nnx_enabled(),
        "imported": [name for name in ("tensorflow", "jax", "torch") if name in sys.modules],
    }))

run_command(main)
"""


def start(
    home: Path, configuration: str | None, backend: Backend = "tensorflow", **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Start Keras as a command does, in the home of a user who has this keras.json, and print its settings."""
    if configuration is not None:
        (home / ".keras").mkdir()
        (home / ".keras/keras.json").write_text(configuration)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("KERAS_", "TF_"))}
    return subprocess.run(
        [sys.executable, "-c", START, backend],
        env=own | {"HOME": str(home), "PYTHONPATH": str(PROJECT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def settings(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return dict(json.loads(result.stdout))


def ours(backend: Backend = "tensorflow") -> dict[str, Any]:
    """Return our settings; no other backend is imported."""
    return OURS | {"backend": backend, "imported": [backend]}


@pytest.mark.parametrize(
    "backend", [name if name == "tensorflow" else pytest.param(name, marks=pytest.mark.slow) for name in BACKENDS]
)
def test_nothing_that_a_user_has_configured_changes_our_settings(tmp_path: Path, backend: Backend) -> None:
    assert settings(start(tmp_path, json.dumps(THEIRS), backend, **VARIABLES)) == ours(backend)


@pytest.mark.slow
@pytest.mark.parametrize("tf32", [False, True])
def test_jax_multiplies_in_full_float32_unless_asked_otherwise_and_in_the_same_order_each_time(tf32: bool) -> None:
    code = (
        "import os, sys\n"
        "from dermoscopy.runtime.keras_start import start_keras\n"
        f"start_keras(1, 'jax', tf32={tf32})\n"
        "import jax\n"
        "print(jax.config.jax_default_matmul_precision, os.environ['XLA_FLAGS'], jax.numpy.ones(2).sum())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=os.environ | {"XLA_FLAGS": "--xla_gpu_autotune_level=0"},
        capture_output=True,
        text=True,
        check=True,
    )
    precision = "tensorfloat32" if tf32 else "float32"
    assert result.stdout.split() == [precision, "--xla_gpu_autotune_level=0", "--xla_gpu_deterministic_ops=true", "2.0"]


def test_a_second_backend_in_one_process_is_refused(keras: Any) -> None:
    with pytest.raises(PipelineError, match="runs on tensorflow in this process and cannot change to jax"):
        start_keras(1, "jax")
    assert keras.config.backend() == "tensorflow"


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["", "{", "{}", '{"nnx_enabled": true}', '{"epsilon": 0.5}'], ids=str)
def test_a_keras_json_that_keras_can_read_or_ignores_does_no_harm(tmp_path: Path, configuration: str) -> None:
    assert settings(start(tmp_path, configuration)) == ours()


@pytest.mark.parametrize(
    "configuration",
    [
        '{"floatx": "float33"}',
        '{"floatx": ["float32"]}',
        '{"epsilon": 1}',
        '{"epsilon": "1e-7"}',
        '{"image_data_format": "channels_middle"}',
        "[]",
        "null",
    ],
)
def test_a_keras_json_that_keras_refuses_is_one_line_that_says_so(tmp_path: Path, configuration: str) -> None:
    result = start(tmp_path, configuration)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: Keras refuses its keras.json (")
    assert result.stderr.endswith("): fix or delete that file\n")
    assert result.stderr.count("\n") == 1
