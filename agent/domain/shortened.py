"""Long lists in one line."""

from __future__ import annotations

from collections.abc import Sequence


def some_of(items: Sequence[str], most: int, *, between: str = ", ") -> str:
    """The first ``most`` of them, and how many more there are: ``web, db and 3 more``."""
    more = len(items) - most
    return between.join(items[:most]) + (f" and {more} more" if more > 0 else "")
