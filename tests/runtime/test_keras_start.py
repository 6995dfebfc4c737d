"""Keras starts with our settings whatever the user has configured, each time in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dermoscopy.runtime.workspace import PROJECT

OURS = {
    "backend": "tensorflow",
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
}

START = """
import json
from dermoscopy.runtime.commands import run_command
from dermoscopy.runtime.keras_start import start_keras

def main():
    start_keras(1)
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
    }))

run_command(main)
"""


def start(home: Path, configuration: str | None, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Start Keras as a command does, in the home of a user who has this keras.json, and print its settings."""
    if configuration is not None:
        (home / ".keras").mkdir()
        (home / ".keras/keras.json").write_text(configuration)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("KERAS_", "TF_"))}
    return subprocess.run(
        [sys.executable, "-c", START],
        env=own | {"HOME": str(home), "PYTHONPATH": str(PROJECT)} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def settings(result: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return dict(json.loads(result.stdout))


def test_nothing_that_a_user_has_configured_changes_our_settings(tmp_path: Path) -> None:
    assert settings(start(tmp_path, json.dumps(THEIRS), **VARIABLES)) == OURS


@pytest.mark.slow
@pytest.mark.parametrize("configuration", ["", "{", "{}", '{"nnx_enabled": true}', '{"epsilon": 0.5}'], ids=str)
def test_a_keras_json_that_keras_can_read_or_ignores_does_no_harm(tmp_path: Path, configuration: str) -> None:
    assert settings(start(tmp_path, configuration)) == OURS


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
