"""Results come in order, and no more of them wait in memory than asked for."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dermoscopy.runtime.threads import map_ahead


@pytest.mark.parametrize("ahead", [1, 4, 100])
def test_results_come_in_the_order_of_the_items_however_many_there_are(ahead: int) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert list(map_ahead(pool, str, range(50), ahead)) == [str(item) for item in range(50)]


def test_items_are_taken_only_a_little_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    with ThreadPoolExecutor(3) as pool:
        for asked, result in enumerate(map_ahead(pool, int, items(), ahead=4)):
            assert result == asked
            assert len(taken) <= asked + 1 + 4


def test_an_error_ends_it_and_what_follows_is_not_begun() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        return 1 // (item - 3)

    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        list(map_ahead(pool, work, range(1_000), ahead=4))
    assert len(begun) < 10
