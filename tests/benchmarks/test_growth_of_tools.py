"""The table of how tools grow."""

import pytest

from benchmarks.growth_of_tools import describe
from benchmarks.processes import Cost


def test_a_power_law_goes_on_to_a_million_images_and_memory_grows_as_a_line() -> None:
    costs = {
        count: {"compare": Cost(9, 2 + 1e-3 * count**1.5, 100 + count / 50)} for count in (0, 1_000, 2_000, 10_000)
    }
    (row,) = describe(costs)
    assert (row["what"], row["start: s"], row["2,000: MB"]) == ("compare", 2, 140)
    assert row["exponent"] == pytest.approx(1.5)
    assert row["1,000,000: s"] == pytest.approx(2 + 1e6)
    assert row["1,000,000: MB"] == pytest.approx(100 + 20_000)
