"""The targets are judged rightly, and what README and docs quote is what results.json says."""

import json

import pytest

from benchmarks import RESULTS
from benchmarks.targets import Target, as_markdown
from dermoscopy.runtime.workspace import PROJECT


@pytest.mark.parametrize(("measured", "least", "reached"), [(2, True, True), (2, False, False), (1, True, False)])
def test_a_target_is_reached_from_its_own_side(measured: float, least: bool, reached: bool) -> None:
    assert Target("speed", measured, "times", 1.5, least).reached is reached


@pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
def test_a_page_quotes_the_results(page: str) -> None:
    table = as_markdown(json.loads(RESULTS.read_text(encoding="utf-8")))
    assert table in (PROJECT / page).read_text(encoding="utf-8"), "put in what python -m benchmarks.targets prints"
