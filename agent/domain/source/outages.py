"""When remotes did not answer: the story that is told of them, beside how they are now."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

_SHORTEST_S = 60.0
"""What is over sooner is told of while it lasts, and then forgotten."""
_KEPT = 200


class Outage(Struct, frozen=True, kw_only=True):
    """One remote was silent from ``since`` to ``until`` (ISO 8601; None: it still is)."""

    remote: str
    since: str
    until: str | None
    error: str | None


Outages = tuple[Outage, ...]


def told(
    known: Outages, remote: str, *, down_since: str | None, at: str, error: str | None
) -> Outages:
    """The outages once ``remote`` was asked ``at`` that time; the same object if none changed."""
    going_on = next((o for o in known if o.remote == remote and o.until is None), None)
    if going_on and going_on.since != down_since:
        ended = replace(going_on, until=down_since or at)
        known = tuple(ended if each is going_on else each for each in known)
        going_on = None
    if down_since and going_on is None and _seconds(down_since, at) >= _SHORTEST_S:
        begun = Outage(remote=remote, since=down_since, until=None, error=error)
        known = (*known, begun)[-_KEPT:]
    return known


def _seconds(since: str, at: str) -> float:
    try:
        return (datetime.fromisoformat(at) - datetime.fromisoformat(since)).total_seconds()
    except (ValueError, TypeError):
        return 0.0
