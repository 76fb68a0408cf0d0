"""Actions of the history, one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.surface.page.views.chips import Chip, chip

_SHOWN_CAUSES = 8
_NO_TIME_S = 0.05
_NAMES = {
    "deploy": "deploy", "restart": "repair", "rollback": "rollback", "remove-stack": "removal",
    "evict": "eviction", "hold": "hold", "accept": "new commit", "other": "other",
}  # fmt: skip
_OF_STACKS = {"deploy", "rollback", "remove-stack"}
ACTIONS = tuple(_NAMES.items())
"""Each action, with what a page calls it."""


class Line(Struct, frozen=True, kw_only=True):
    """One action. ``duration`` is in words, or empty; so is ``host`` where there is but one."""

    id: int
    at: str
    action: str
    subject: str
    of_stack: bool
    status: Chip
    revision: str
    message: str
    causes: tuple[str, ...]
    more: int
    duration: str
    attempts: int
    error: str | None
    actor: str | None
    host: str = ""


def line(entry: Mapping[str, Any]) -> Line:
    """Of an entry of ``/v1/history``."""
    causes: Sequence[Mapping[str, Any]] = entry["cause"]
    return Line(
        id=entry["id"],
        at=entry["at"],
        action=_NAMES.get(entry["action"], entry["action"]),
        subject=entry["subject"],
        of_stack=entry["action"] in _OF_STACKS,
        status=chip(entry["status"])
        if entry["status"] != "running"
        else Chip("…", "running", "busy"),
        revision=(entry["revision"] or "")[:7],
        message=entry["message"],
        causes=tuple(str(each["message"]) for each in causes[:_SHOWN_CAUSES]),
        more=max(0, len(causes) - _SHOWN_CAUSES) + entry.get("more_causes", 0),
        duration=lasted(entry["duration_s"]),
        attempts=entry["attempts"],
        error=entry["error"],
        actor=entry.get("actor"),  # an older agent tells of none
    )


def lasted(seconds: float | None) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``; empty for what is not known or took no time."""
    if seconds is None or seconds < _NO_TIME_S:
        return ""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
