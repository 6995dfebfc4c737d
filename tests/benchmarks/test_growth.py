"""The exponent of growth, and the table around it."""

import pytest

from benchmarks.growth import describe_features, exponent
from benchmarks.processes import Cost


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power: float) -> None:
    sizes = [200, 400, 800, 1600]
    assert exponent(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_the_start_does_not_count_as_growth() -> None:
    costs = {count: [Cost(9, 5 + 0.01 * count, 200)] * 3 for count in (0, 200, 400, 800)}
    rows = describe_features(costs)
    assert rows[-1]["work, s"] == pytest.approx(1)
    assert [row["images"] for row in rows] == [0, 200, 400, 800, "exponent"]
