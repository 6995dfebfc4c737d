"""The benchmark of GPUs: it runs where there is little else, and measures what it says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dermoscopy.runtime.workspace import PROJECT

HIDDEN = ("tensorflow", "openvino", "dvc", "dvclive", "kaggle", "sklearn", "matplotlib", "pandera", "ray")


@pytest.mark.slow
def test_it_runs_on_a_processor_with_nothing_but_what_is_carried_along(tmp_path: Path) -> None:
    for name in HIDDEN:
        (tmp_path / f"{name}.py").write_text(f'raise ModuleNotFoundError("{name} is not on a bare machine")\n')
    arguments = ["--engine", "jax", "--network", "MobileNetV2", "--size", "64", "--images", "64"]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    *lines, last = result.stdout.splitlines()
    measured = json.loads(last)
    assert [line.split(" s  ", 1)[1] for line in lines] == [f"{k}: {json.dumps(v)}" for k, v in measured.items()]
    assert measured["machine"]["engine"].endswith(", CPU")
    assert measured["float32: error of the features"]["of the norm"] < 1e-4
    speeds = measured["float32: images/s"]
    assert list(speeds) == ["bare network", "engine", "stage, no decoding", "stage, photographs"]
    assert all(0 < row["images/s"] < 1e6 and row["share"] > 0 for row in speeds.values())
    assert speeds["stage, photographs"]["limit"] == "network"
    assert list(measured["growth: s by images"]) == ["32", "64"]
    assert measured["fine-tuning"]["second epoch, images/s"] > 0


def test_without_a_gpu_an_engine_must_be_named() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=PROJECT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "no engine sees a GPU here" in result.stderr
