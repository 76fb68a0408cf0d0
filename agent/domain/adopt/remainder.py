"""What of a service's spec nothing has been made of yet.

A stack's file has no word for some of what services can be; what is left in the end is refused, and
never lost without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Remainder:
    """A copy of ``raw`` out of which values are taken."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._left = _copied(raw)

    def take(self, *path: str) -> Any:
        """The value there, which is gone from then on; None where there is none."""
        at: Any = self._left
        for key in path[:-1]:
            at = at.get(key)
            if not isinstance(at, dict):
                return None
        return at.pop(path[-1], None)

    def some(self, *path: str) -> Mapping[str, Any]:
        """The mapping there, empty where there is none."""
        found: Mapping[str, Any] = self.take(*path) or {}
        return found

    def left(self) -> list[str]:
        """The names of what is left and says something, ``TaskTemplate.ContainerSpec.Groups``."""
        return sorted(".".join(path) for path in _said(self._left))


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(below) for key, below in value.items()}
    return value


def _said(value: Any) -> Iterator[tuple[str, ...]]:
    """Paths to what is not null, false, zero, or empty."""
    for key, below in value.items():
        if isinstance(below, dict):
            for path in _said(below):
                yield (key, *path)
        elif below:
            yield (key,)
