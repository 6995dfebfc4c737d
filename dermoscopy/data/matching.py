"""Which file is meant by a name that may have folders, of this machine or another."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def match_names(
    wanted: Iterable[str], available: Iterable[Item], name_of: Callable[[Item], str]
) -> Iterator[tuple[str, list[Item]]]:
    """Yield each of `wanted` with what it means of `available`; names have folders or none, and no suffix.

    What has another name is another file. Where several have this name, folders decide: the longest common end of both,
    whatever stands before it. What is available belongs to the name that shares most with it.
    """
    found_by_last = _grouped(available, lambda item: _last(name_of(item)))
    for last, several in _grouped(wanted, _last).items():
        found = found_by_last.get(last, [])
        if len(several) == 1 and len(found) < 2:
            yield several[0], found
        else:
            by_name = _grouped(found, name_of)
            for name, meant in _match_folders(several, by_name).items():
                yield name, [item for one in meant for item in by_name[one]]


def _grouped(items: Iterable[Item], key: Callable[[Item], str]) -> Mapping[str, list[Item]]:
    """Return the items by their keys, in order."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _match_folders(wanted: Sequence[str], available: Iterable[str]) -> dict[str, list[str]]:
    """Return which of `available` each of `wanted` means, where all have one name but for folders."""
    by_end: dict[tuple[str, ...], list[str]] = {}
    for name in available:
        folders = _folders(name)
        for length in range(len(folders) + 1):
            by_end.setdefault(folders[:length], []).append(name)
    shared: dict[str, tuple[str, ...]] = {}
    for name in wanted:
        folders = _folders(name)
        shared[name] = next((folders[:n] for n in range(len(folders), 0, -1) if folders[:n] in by_end), ())
    claims = Counter(shared.values())
    owner: dict[str, tuple[str, ...]] = {}
    for end in sorted(claims, key=len):  # the longest has the last word
        owner |= dict.fromkeys(by_end.get(end, []), end)
    return {
        name: [found for found in by_end.get(end, []) if owner[found] == end] if claims[end] == 1 else []
        for name, end in shared.items()
    }


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _folders(name: str) -> tuple[str, ...]:
    """Return the folders of a name, from the one right above the file outward."""
    return tuple(name.split("/")[-2::-1])
