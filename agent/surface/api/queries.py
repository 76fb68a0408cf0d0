"""What is asked for: parameters of a URL and bodies, or an error that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeVar

import msgspec
from aiohttp import web
from multidict import MultiMapping

from agent.control.status import history as histories
from agent.domain.outcome import Action
from agent.surface.api.errors import ApiError

_COMMIT = re.compile(r"[0-9a-f]{4,64}")
_Body = TypeVar("_Body")


def nothing(request: web.Request) -> None:
    """No parameters."""
    _known(request.query, ())


def history(request: web.Request) -> tuple[int, histories.Wanted, int]:
    """How many actions, which, and below which number (0: any)."""
    return narrowed(request.query)


def narrowed(query: MultiMapping[str]) -> tuple[int, histories.Wanted, int]:
    """The same of these parameters."""
    _known(query, ("subject", "limit", "before", "action", "since", "until", "commit"))
    before = _one(query, "before") or "0"
    if not re.fullmatch(r"[0-9]{1,18}", before):
        raise ApiError(400, f"before: {before[:40]!r} is not the number of an action")
    limit, most = _one(query, "limit") or "30", histories.MOST_AT_ONCE
    if not re.fullmatch(r"[0-9]{1,6}", limit) or not 0 < int(limit) <= most:
        raise ApiError(400, f"limit: {limit[:40]!r} is no number from 1 to {most}")
    actions = query.getall("action", [])
    for name in actions:
        if name not in set(Action):
            raise ApiError(400, f"action: {name[:40]!r} is no action", ", ".join(Action))
    times = {}
    for key in ("since", "until"):
        try:
            times[key] = histories.moment(at) if (at := _one(query, key)) else None
        except ValueError as err:
            raise ApiError(400, f"{key}: {err}") from None
    commit = _one(query, "commit") or ""
    if commit and not _COMMIT.fullmatch(commit):
        raise ApiError(400, f"commit: {commit[:80]!r} is not the beginning of a commit's SHA")
    kinds = tuple(Action(name) for name in actions)
    wanted = histories.Wanted(subject=_one(query, "subject"), actions=kinds, commit=commit, **times)
    return int(limit), wanted, int(before)


def changes(request: web.Request) -> tuple[str, str]:
    """From which commit to which."""
    if found := compared(request):
        return found
    raise ApiError(400, "from and to are the commits to compare")


def compared(request: web.Request) -> tuple[str, str] | None:
    """The same; None without either."""
    _known(request.query, ("from", "to"))
    found = [_one(request.query, key) for key in ("from", "to")]
    for commit in found:
        if commit is not None and not _COMMIT.fullmatch(commit):
            raise ApiError(400, f"{commit[:80]!r} is not the beginning of a commit's SHA")
    before, after = found
    if before is None and after is None:
        return None
    if before is None or after is None:
        raise ApiError(400, "from and to are the commits to compare")
    return before, after


def plan(request: web.Request) -> str | None:
    """For which commit."""
    _known(request.query, ("rev",))
    return _one(request.query, "rev")


def text(value: str) -> str:
    """The same, if it is text at all."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ApiError(400, "a value is not UTF-8") from None
    if "\0" in value:
        raise ApiError(400, "a value has a NUL in it")
    return value


async def body(request: web.Request, kind: type[_Body]) -> _Body:
    """The order in the body: a JSON object."""
    nothing(request)
    try:
        order = msgspec.json.decode(await request.read() or b"{}", type=kind)
    except msgspec.DecodeError as err:
        raise ApiError(400, f"the body: {err}") from None
    for value in msgspec.structs.asdict(order).values():  # type: ignore[arg-type]
        if isinstance(value, str):
            text(value)
    return order


def _known(query: MultiMapping[str], known: Collection[str]) -> None:
    for key in query:
        if key not in known:
            hint = f"known: {', '.join(known)}" if known else None
            raise ApiError(400, f"there is no parameter {key[:40]!r} here", hint)


def _one(query: MultiMapping[str], key: str) -> str | None:
    values = query.getall(key, [])
    if len(values) > 1:
        raise ApiError(400, f"{key} is there more than once")
    if values and not values[0]:
        raise ApiError(400, f"{key} is empty")
    return text(values[0]) if values else None
