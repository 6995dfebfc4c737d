"""The targets are judged right, and docs/performance.md quotes results.json."""

import pytest

from benchmarks.results import read_results
from benchmarks.targets import Target, as_markdown
from dermoscopy.runtime.workspace import PROJECT


@pytest.mark.parametrize(("measured", "at_least", "reached"), [(2, True, True), (2, False, False), (1, True, False)])
def test_a_target_is_reached_from_its_own_side(measured: float, at_least: bool, reached: bool) -> None:
    assert Target("speed", measured, "times", 1.5, at_least).reached is reached


def test_the_documentation_quotes_the_results() -> None:
    page = (PROJECT / "docs/performance.md").read_text(encoding="utf-8")
    assert as_markdown(read_results()) in page, "replace its table by what python -m benchmarks.targets prints"
