"""Each row of the threat model names what holds it: tests that exist, or the review of people."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/threat-model.md"
_HEADER = 2
_TEST = re.compile(r"`(tests/[\w/.]+)(?:::(\w+))?`")
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("|")][_HEADER:]


@pytest.mark.parametrize("row", ROWS, ids=[str(number) for number, _ in enumerate(ROWS)])
def test_each_row_names_a_test_or_the_review(row: str) -> None:
    guard = row.split(" | ")[2]
    tests = _TEST.findall(guard)
    assert tests or "review" in guard, row
    for file, name in tests:
        assert (ROOT / file).exists(), file
        assert not name or f"def {name}(" in (ROOT / file).read_text(), name


def test_the_table_is_read() -> None:
    assert len(ROWS) > 30
