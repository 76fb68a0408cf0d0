"""How processes that run side by side share the tests: each takes the next when it has done one."""

from __future__ import annotations

import fcntl
import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest


def taken(items: Sequence[pytest.Item], path: Path) -> Iterator[pytest.Item]:
    """The items that fall to this process, of the same ones that all have in the same order.

    `path` is the file they share, empty at first. Tests that share a fixture of their module stay
    together, or every process would have to make it.
    """
    parts: dict[str, list[pytest.Item]] = {}
    for item in items:
        parts.setdefault(_part(item), []).append(item)
    # What takes longest goes first, or all would wait for it in the end.
    order = sorted(parts.values(), key=_length, reverse=True)
    with path.open("ab") as shared:
        while (number := _next_number(shared)) < len(order):
            yield from order[number]


def _part(item: pytest.Item) -> str:
    fixtures = item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
    whole_module = any(definitions[-1].scope == "module" for definitions in fixtures)
    return item.nodeid.partition("::")[0] if whole_module else item.nodeid


def _length(part: list[pytest.Item]) -> tuple[float, int]:
    marks = (item.get_closest_marker("timeout") for item in part)
    return max(mark.args[0] if mark else 0.0 for mark in marks), len(part)


def _next_number(shared: IO[bytes]) -> int:
    """Each number is given out once: a process appends a byte under a lock."""
    fcntl.flock(shared, fcntl.LOCK_EX)
    number = os.fstat(shared.fileno()).st_size
    shared.write(b".")
    shared.flush()
    fcntl.flock(shared, fcntl.LOCK_UN)
    return number
