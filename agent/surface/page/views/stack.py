"""One stack, as ``why``, its history and the changes of its files have it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.domain.outcome import Action, short
from agent.domain.status import placement
from agent.surface.page.views import actions
from agent.surface.page.views.chips import UNKNOWN, Chip, chip, container, sync

_KINDS = {"+": "added", "-": "dropped", "@": "place"}


class Origin(Struct, frozen=True, kw_only=True):
    """A place in the repository and the commit that made it so, as far as it is known."""

    where: str
    commit: str
    author: str
    subject: str
    at: str | None


class Service(Struct, frozen=True, kw_only=True):
    """One service: its image, where Git says so, and its containers with their states.

    In a Swarm it is its own one, and on which nodes its tasks are.
    """

    name: str
    image: str
    origin: Origin | None
    containers: tuple[tuple[str, Chip, str], ...]


class Changed(Struct, frozen=True, kw_only=True):
    """One file that differs; ``lines`` are of a diff, each with its kind."""

    path: str
    change: str
    note: str | None
    lines: tuple[tuple[str, str], ...]


class Release(Struct, frozen=True, kw_only=True):
    """A commit that the stack was worked on for, as a choice of what to compare."""

    sha: str
    short: str
    at: str


class Stack(Struct, frozen=True, kw_only=True):
    """All that the page of a stack shows. ``hidden`` is how root reads its last words.

    ``older``: more was done than ``history`` has.
    """

    host: str
    name: str
    sync: Chip
    health: Chip
    because: str
    origins: tuple[tuple[str, Origin], ...]
    services: tuple[Service, ...]
    history: tuple[actions.Line, ...]
    older: bool
    releases: tuple[Release, ...]
    before: str | None
    after: str | None
    changes: tuple[Changed, ...] | None
    more: int
    failure: actions.Line | None
    hidden: str | None


def releases(history: Iterable[Mapping[str, Any]]) -> tuple[Release, ...]:
    """The commits of the history, each when it was first worked on, the newest first."""
    found: dict[str, str] = {}
    for entry in history:
        if entry["revision"] and entry["action"] in {Action.DEPLOY, Action.ROLLBACK}:
            found[entry["revision"]] = entry["at"]
    ordered = sorted(found.items(), key=lambda each: each[1], reverse=True)
    return tuple(Release(sha=sha, short=sha[:7], at=at) for sha, at in ordered)


def stack(
    host: str,
    why: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    changes: Mapping[str, Any] | None,
    *,
    older: bool = False,
) -> Stack:
    """The page of the stack that ``why`` is about; ``changes`` if two releases were compared."""
    state = why["state"]
    failed = _failed(history)
    return Stack(
        host=host,
        name=why["stack"] or why["name"],
        sync=sync(state) if state else UNKNOWN,
        health=chip(state["health"]) if state else UNKNOWN,
        because=why["because"],
        origins=tuple(_origins(why)),
        services=tuple(
            _service(each, well=bool(state and state["health"] == "healthy"))
            for each in why["services"]
        ),
        history=tuple(map(actions.line, history)),
        older=older,
        releases=releases(history),
        before=changes["from"]["sha"] if changes else None,
        after=changes["to"]["sha"] if changes else None,
        changes=tuple(map(_changed, changes["files"])) if changes else None,
        more=changes["more"] if changes else 0,
        failure=actions.line(failed) if failed else None,
        hidden=f"sudo commitd why {shlex.quote(why['name'])}" if failed else None,
    )


def _failed(history: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What failed last, if no deploy has succeeded since: to go back is no success of it."""
    for entry in history:
        if entry["status"] == "failed":
            return entry
        if entry["action"] == Action.DEPLOY and entry["status"] == "succeeded":
            return None
    return None


def _origins(why: Mapping[str, Any]) -> Iterable[tuple[str, Origin]]:
    if why["declared"]:
        yield "declared by", _origin(why["declared"])
    if why["left"]:
        yield "no longer named by", _origin(why["left"])
    for path, commit in why["touched"].items():
        yield "last changed", _origin({"where": path, "commit": commit})


def _origin(place: Mapping[str, Any]) -> Origin:
    commit = place["commit"] or {}
    return Origin(
        where=place["where"],
        commit=(commit.get("sha") or "")[:7],
        author=commit.get("author") or "",
        subject=commit.get("subject") or "",
        at=commit.get("committed_at"),
    )


def _service(service: Mapping[str, Any], *, well: bool) -> Service:
    return Service(
        name=service["name"],
        image=short(service["image"]) if service["image"] else "–",
        origin=_origin(service) if service["where"] else None,
        containers=tuple(
            (
                each["name"],
                container(each["state"], each["health"], well=well),
                placement.line(each.get("tasks") or ()),  # an older agent does not say
            )
            for each in service["containers"]
        ),
    )


def _changed(file: Mapping[str, Any]) -> Changed:
    lines = (file["diff"] or "").split("\n") if file["diff"] else []
    return Changed(
        path=file["path"],
        change=file["change"],
        note=file["note"],
        lines=tuple((_KINDS.get(each[:1], "same"), each) for each in lines),
    )
