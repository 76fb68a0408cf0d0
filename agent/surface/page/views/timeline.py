"""A picture of the last 24 hours, or 30 days: what was done, and which remote did not answer.

One lane a kind, cut into slots of equal length; a slot in which something happened has a bar, the
higher the more it was. An outage goes through all slots that it touches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from agent.domain.outcome import Action

_DONE = {"succeeded", "running"}
_HIGHEST = 10
"""Units of a lane."""
_LOWEST = 4

Document = Mapping[str, Any]


class Scale(Struct, frozen=True):
    """For how long: so many slots of that length."""

    id: str
    name: str
    slot: timedelta
    slots: int


class Bar(Struct, frozen=True):
    """One slot of a lane, from the left and from the top, in slots and in units."""

    slot: int
    top: float
    height: float
    count: int
    at: str


class Lane(Struct, frozen=True):
    """All of one kind. ``tone`` is that of a chip."""

    name: str
    tone: str
    count: int
    bars: tuple[Bar, ...]


class Timeline(Struct, frozen=True):
    """``ticks`` are the times (ISO 8601) at equal distances, from the first to the last moment."""

    id: str
    name: str
    slots: int
    lanes: tuple[Lane, ...]
    ticks: tuple[str, ...]


_KINDS: tuple[tuple[str, str, Callable[[Document], bool]], ...] = (
    ("Deploys", "good", lambda e: e["action"] == Action.DEPLOY and e["status"] in _DONE),
    ("Repairs", "busy", lambda e: e["action"] == Action.RESTART and e["status"] in _DONE),
    ("Failures", "bad", lambda e: e["status"] == "failed"),
    ("Rollbacks", "held", lambda e: e["action"] == Action.ROLLBACK),
    ("Removals", "unknown", lambda e: e["action"] == Action.REMOVE_STACK),
    ("Evictions", "held", lambda e: e["action"] == Action.EVICT),
)
_OUTAGES = "Outages of remotes"


def day(now: datetime, entries: Sequence[Document], outages: Sequence[Document]) -> Timeline:
    """The last 24 hours in quarters of an hour."""
    return _timeline(
        Scale("day", "Last 24 hours", timedelta(minutes=15), 96), now, entries, outages
    )


def month(now: datetime, entries: Sequence[Document], outages: Sequence[Document]) -> Timeline:
    """The last 30 days in quarters of a day."""
    return _timeline(Scale("month", "Last 30 days", timedelta(hours=6), 120), now, entries, outages)


def _timeline(
    scale: Scale, now: datetime, entries: Sequence[Document], outages: Sequence[Document]
) -> Timeline:
    slot, slots = scale.slot, scale.slots
    begin = now - slot * slots

    def place(at: str | None) -> int | None:
        """In which slot a time is; may be before the first or after the last."""
        try:
            return int((datetime.fromisoformat(at) - begin) // slot) if at else None
        except (ValueError, TypeError):
            return None

    def lane(name: str, tone: str, found: Iterable[int | None], count: int | None = None) -> Lane:
        inside = [n for n in found if n is not None and 0 <= n < slots]
        bars = [
            _bar(number, many, begin + slot * number)
            for number, many in sorted(Counter(inside).items())
        ]
        return Lane(name, tone, len(inside) if count is None else count, tuple(bars))

    lanes = [
        lane(name, tone, [place(each["at"]) for each in entries if is_one(each)])
        for name, tone, is_one in _KINDS
    ]
    silent = [(place(each["since"]), place(each["until"])) for each in outages]
    spans = [
        range(max(0, first), min(slots - 1, slots if last is None else last) + 1)
        for first, last in silent
        if first is not None and first < slots and (last is None or last >= 0)
    ]
    touched = sorted({number for span in spans for number in span})
    lanes.append(lane(_OUTAGES, "bad", touched, len(spans)))
    ticks = tuple(_iso(begin + slot * slots * n / 4) for n in range(5))
    return Timeline(scale.id, scale.name, slots, tuple(lanes), ticks)


def _bar(number: int, many: int, at: datetime) -> Bar:
    height = min(_HIGHEST, _LOWEST + 2 * (many - 1))
    return Bar(number, _HIGHEST - height, height, many, _iso(at))


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
