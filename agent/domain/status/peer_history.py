"""The history of another agent, which may be of another version, or no agent at all.

What is there has to be of its type and in the order of an agent; texts are cut to what a page shows
of them. What is not known here is left out; an action that is not known stays, as a word.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from agent.domain.errors import PermanentError

_WORD, _LINE, _TEXT = 60, 300, 2000
"""Characters that are kept of a code, of a name and of a sentence."""
_CAUSES = 8
_Text = Annotated[str, Meta(max_length=100_000)]
_At = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
_Sha = Annotated[str, Meta(pattern="^[0-9a-f]{4,64}$")]
_Id = Annotated[int, Meta(gt=0, lt=10**18)]


class Cause(Struct, frozen=True):
    """What moved, in words."""

    message: _Text


class Entry(Struct, frozen=True):
    """One action. An agent that is older does not say who ordered it."""

    id: _Id
    at: _At
    action: _Text
    subject: _Text
    message: _Text
    cause: Annotated[list[Cause], Meta(max_length=10_000)]
    revision: _Sha | None
    status: _Text
    attempts: Annotated[int, Meta(ge=0, le=10**6)]
    duration_s: Annotated[float, Meta(ge=0, le=10**9)] | None
    error: _Text | None
    actor: _Text | None = None


class Outage(Struct, frozen=True):
    """When a remote did not answer."""

    since: _At
    until: _At | None


_ENTRIES = msgspec.json.Decoder(Annotated[list[Entry], Meta(max_length=1000)])
_OUTAGES = msgspec.json.Decoder(Annotated[list[Outage], Meta(max_length=1000)])


def read(content: bytes, *, limit: int, before: int = 0) -> list[dict[str, Any]]:
    """The newest ``limit`` actions of numbers below ``before`` (0: of all), as ``/v1/history`` has
    them, without what is not shown; ``more_causes`` are not among the causes.

    Raises :class:`PermanentError` for anything else. Takes 10 ms a megabyte.
    """
    entries: list[Entry] = _decoded(_ENTRIES, content)[:limit]
    last = before
    for each in entries:
        if last and each.id >= last:
            raise _strange("its actions are not in order")
        last = each.id
        _moment(each.at)
    return [
        {
            "id": each.id,
            "at": each.at,
            "action": _cut(each.action, _WORD),
            "subject": _cut(each.subject, _LINE),
            "message": _cut(each.message, _TEXT),
            "cause": [{"message": _cut(c.message, _LINE)} for c in each.cause[:_CAUSES]],
            "more_causes": max(0, len(each.cause) - _CAUSES),
            "revision": each.revision,
            "status": _cut(each.status, _WORD),
            "attempts": each.attempts,
            "duration_s": each.duration_s,
            "error": None if each.error is None else _cut(each.error, _TEXT),
            "actor": None if each.actor is None else _cut(each.actor, _LINE),
        }
        for each in entries
    ]


def outages(content: bytes) -> list[dict[str, Any]]:
    """Those of ``/v1/outages``. Raises :class:`PermanentError` for anything else."""
    found: list[Outage] = _decoded(_OUTAGES, content)
    for each in found:
        _moment(each.since)
        _moment(each.until)
    return [{"since": each.since, "until": each.until} for each in found]


def _decoded(decoder: msgspec.json.Decoder[Any], content: bytes) -> Any:
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, RecursionError, ValueError) as err:
        wrong = str(err)[:200] if isinstance(err, msgspec.ValidationError) else "it is no JSON"
        raise _strange(wrong) from None


def _moment(at: str | None) -> None:
    try:
        _ = at and datetime.fromisoformat(at)
    except ValueError:
        raise _strange("a time in it is none") from None


def _strange(wrong: str) -> PermanentError:
    return PermanentError(
        f"what answers there is no agent of a version that is known here: {wrong}"
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
