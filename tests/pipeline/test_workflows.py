"""The workflows of GitHub Actions: ours, and the example for a team."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dermoscopy.runtime.workspace import PROJECT

WORKFLOWS = [*sorted((PROJECT / ".github/workflows").glob("*.yml")), PROJECT / "docs/examples/experiment.yml"]


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_follows_the_schema(path: Path) -> None:
    result = lint(path)
    assert result.returncode == 0, result.stdout


def test_the_schema_finds_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "workflow.yml"
    path.write_text(WORKFLOWS[-1].read_text(encoding="utf-8").replace("runs-on:", "run-on:"), encoding="utf-8")
    assert lint(path).returncode == 1


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_credentials_from_github_alone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"^ *(\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*): *(.*)$", text, re.MULTILINE)
    assert all(re.fullmatch(r"\$\{\{ (secrets\.\w+|github\.token) \}\}", value) for _, value in named), named
    assert len(named) == (3 if path.name == "experiment.yml" else 0)
