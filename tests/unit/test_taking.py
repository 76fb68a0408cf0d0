"""However many processes share the tests, each test is run once, and nobody waits for long."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.system.taking import taken

pytest_plugins = ["pytester"]

_TESTS = """
import pytest

@pytest.fixture(scope="module")
def shared(): ...

def test_first(shared): ...

@pytest.mark.parametrize("n", range(20))
def test_many(n): ...

def test_second(shared): ...

@pytest.mark.timeout(600)
def test_long(): ...
"""


@pytest.mark.parametrize("count", [1, 3])
def test_every_test_is_taken_once_and_the_long_one_first(
    pytester: pytest.Pytester, tmp_path: Path, count: int
) -> None:
    items, _ = pytester.inline_genitems(pytester.makepyfile(_TESTS))
    takers = [taken(items, tmp_path / "taken") for _ in range(count)]
    rounds = list(itertools.zip_longest(*takers))
    names = [item.name for number in rounds for item in number if item]
    assert sorted(names) == sorted(item.name for item in items)
    assert names[0] == "test_long"
    assert len(rounds) <= len(items) // count + 2
    (together,) = [
        taker
        for taker in zip(*rounds, strict=True)
        if any(i and i.name == "test_first" for i in taker)
    ]
    mine = [item.name for item in together if item]
    assert mine.index("test_second") == mine.index("test_first") + 1
