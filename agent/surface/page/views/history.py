"""What was done, narrowed by who asks, under a picture of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from agent.surface.page.views import actions, timeline

PERIODS = (
    ("", "all that is remembered"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
)


class Wanted(Struct, frozen=True, kw_only=True):
    """By what the list is narrowed; empty: by nothing."""

    subject: str = ""
    action: str = ""
    since: str = ""


class History(Struct, frozen=True, kw_only=True):
    """All that the page shows. ``full``: there is more than the list has."""

    host: str
    wanted: Wanted
    stacks: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    periods: tuple[tuple[str, str], ...]
    lines: tuple[actions.Line, ...]
    full: bool
    pictures: tuple[timeline.Timeline, ...]


def history(
    host: str,
    wanted: Wanted,
    *,
    found: Sequence[Mapping[str, Any]],
    full: bool,
    month: Sequence[Mapping[str, Any]],
    outages: Sequence[Mapping[str, Any]],
    stacks: Iterable[str],
    now: datetime,
) -> History:
    """The page, with what was ``found`` and all of the last ``month`` for the pictures."""
    return History(
        host=host,
        wanted=wanted,
        stacks=tuple(sorted(stacks)),
        kinds=actions.ACTIONS,
        periods=PERIODS,
        lines=tuple(map(actions.line, found)),
        full=full,
        pictures=(timeline.day(now, month, outages), timeline.month(now, month, outages)),
    )
