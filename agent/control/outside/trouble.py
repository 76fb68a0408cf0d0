"""What of telling others does not work now: for ``status`` and for metrics.

It says nothing of how the host is, and changes no verdict and no exit code.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from agent.adapters.state.database import utcnow

_MOST = 100
"""Names; each consumer has a few, which the configuration bounds."""
_LONGEST = 500
"""Characters of one error."""


class Failing(Struct, frozen=True, kw_only=True):
    """Why something cannot be told, and since when (ISO 8601)."""

    error: str
    since: str


class Trouble:
    """Kept by the consumers, each under names of its own: ``notify:phone``, ``heartbeat``."""

    def __init__(self) -> None:
        self._current: dict[str, Failing] = {}

    @property
    def current(self) -> Mapping[str, Failing]:
        """All that does not work now, by name."""
        return MappingProxyType(self._current)

    def set(self, name: str, error: str) -> None:
        """``name`` does not work: ``error``, which holds no secret. It stays so since it began."""
        before = self._current.get(name)
        if before is None and len(self._current) >= _MOST:
            return
        since = before.since if before else utcnow()
        self._current[name] = Failing(error=error[:_LONGEST], since=since)

    def clear(self, name: str) -> None:
        """``name`` works, or has nothing to do any more."""
        self._current.pop(name, None)

    def as_json(self) -> list[dict[str, str]]:
        """For programs, by name."""
        return [
            {"name": name, "error": failing.error, "since": failing.since}
            for name, failing in sorted(self._current.items())
        ]
