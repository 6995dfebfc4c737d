"""Which Python runs the stages: the environment's, or one line says that it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dermoscopy.runtime.workspace import PROJECT


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without packages."""
    folder = tmp_path_factory.mktemp("bare") / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


@pytest.mark.parametrize("module", ["stages.train", "stages.download", "tools.predict"])
def test_a_python_without_the_packages_says_what_to_do_in_one_line(bare: Path, module: str) -> None:
    command = [str(bare / "bin/python"), "-m", module]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error: {bare / 'bin/python'} lacks the packages of this project, ")
    assert "`source .venv/bin/activate`" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_environment_that_make_makes_has_its_commands_first_on_path_without_activation(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    goal = [f"VENV={venv}", str(venv / "bin/.installed")]
    dry = subprocess.run(["make", "--dry-run", *goal], cwd=PROJECT, capture_output=True, text=True, check=True)  # noqa: S607
    (line,) = [line for line in dry.stdout.splitlines() if ".pth" in line]
    show = [str(venv / "bin/python"), "-c", "import os; print(os.environ['PATH'])"]
    for path, expected in [
        ("/usr/bin:/bin", f"{venv}/bin:/usr/bin:/bin"),
        (f"/usr/bin:{venv}/bin:/bin", f"{venv}/bin:/usr/bin:/bin"),
        (f"{venv}/bin:/usr/bin", f"{venv}/bin:/usr/bin"),
        (None, f"{venv}/bin:{os.defpath}"),
    ]:
        subprocess.run(["sh", "-c", line], check=True)  # noqa: S607 - again each time, which changes nothing
        environment = {} if path is None else {"PATH": path}
        shown = subprocess.run(show, env=environment, capture_output=True, text=True, check=True)
        assert shown.stdout.strip() == expected
        assert shown.stderr == ""
    inner = [show[0], "-c", "import shutil; print(shutil.which('python'))"]
    found = subprocess.run(inner, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True).stdout
    assert found.strip() == str(venv / "bin/python")


@pytest.mark.parametrize("package", ["stages", "tools"])
def test_openvino_tells_nobody_of_its_use(tmp_path: Path, package: str) -> None:
    variables = {"HOME": str(tmp_path), "CI": ""}  # where CI is true, it is silent anyway
    command = [sys.executable, "-c", f"import {package}; import openvino; openvino.convert_model"]
    subprocess.run(command, cwd=PROJECT, env=os.environ | variables, check=True)
    assert not (tmp_path / "intel").exists()  # what it says is counted there
