"""All hosts, one line each: what of its status document is asked for first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from agent.domain.outcome import Reason
from agent.surface.page.views.chips import ORDER, Chip, chip, rolled_back
from agent.surface.page.views.host import host

_SHOWN, _LONGEST = 3, 300
_NAMES = 8
"""What is kept of a document is bounded, for there are as many as there are hosts."""
SILENT = Chip("?", "No answer", "unknown")
_ASKED = Chip("…", "Asked", "busy")


class Remote(Struct, frozen=True, kw_only=True):
    """One remote, and by how many commits it is behind."""

    name: str
    answer: Chip
    relation: str
    lag: int | None


class Stacks(Struct, frozen=True, kw_only=True):
    """Names of stacks that have something in common; ``more`` are not named."""

    word: Chip
    names: tuple[str, ...]
    more: int


class Line(Struct, frozen=True, kw_only=True):
    """What a host's document says, in short."""

    called: str
    state: Chip
    verdict: str
    needs: tuple[tuple[str, str], ...]
    more_needs: int
    stacks: int
    trouble: tuple[Stacks, ...]
    remotes: tuple[Remote, ...]
    commit: str
    subject: str
    looked_at: str | None


class Row(Struct, frozen=True, kw_only=True):
    """A host in the table. Without an answer ``line`` is what was known at ``seen_at``, or None.

    ``was`` is how it was then, in words.
    """

    name: str
    state: Chip
    line: Line | None
    error: str | None = None
    seen_at: str | None = None
    was: str | None = None


class Fleet(Struct, frozen=True, kw_only=True):
    """All of it, what needs a person first."""

    state: Chip
    said: str
    rows: tuple[Row, ...]


def line(document: Mapping[str, Any]) -> Line:
    """Of a host's ``/v1/status``."""
    view = host(document)
    return Line(
        called=_clip(view.name),
        state=view.state,
        verdict=_clip(view.verdict),
        needs=tuple((_clip(n.subjects), _clip(n.message)) for n in view.needs[:_SHOWN]),
        more_needs=max(0, len(view.needs) - _SHOWN),
        stacks=len(view.stacks),
        trouble=tuple(_trouble(document["stacks"])),
        remotes=tuple(map(_remote, view.remotes[:_NAMES])),
        commit=(view.revision["applied"] or "")[:7],
        subject=_clip(view.revision["subject"] or ""),
        looked_at=view.looked_at,
    )


def row(
    name: str,
    line: Line | None,
    *,
    error: str | None = None,
    seen_at: str | None = None,
    asked: bool = True,
) -> Row:
    """Of a host that said ``line`` last, and now does not answer, if there is an ``error``."""
    if error is None and line is not None:
        return Row(name=name, state=line.state, line=line, seen_at=seen_at)
    return Row(
        name=name,
        state=SILENT if asked else _ASKED,
        line=line,
        error=error,
        seen_at=seen_at,
        was=f"{line.state.word} ({line.verdict})" if line else None,
    )


def fleet(rows: Sequence[Row]) -> Fleet:
    """The page of all hosts."""
    ordered = sorted(rows, key=_urgency)
    good = sum(each.state.tone == "good" for each in rows)
    needy = sum(bool(each.line and each.line.needs and not each.was) for each in rows)
    silent = sum(each.error is not None for each in rows)
    parts = [f"{good} of {len(rows)} hosts in sync" if good < len(rows) else _all(len(rows))]
    parts += [f"{needy} wait{'s' if needy == 1 else ''} for you"] * bool(needy)
    parts += [f"{silent} do{'es' if silent == 1 else ''} not answer"] * bool(silent)
    worst = min((each.state for each in rows), key=lambda state: ORDER.index(state.tone))
    return Fleet(state=worst, said=", ".join(parts), rows=tuple(ordered))


def _all(count: int) -> str:
    return f"All {count} hosts are in sync" if count > 1 else "The host is in sync"


def _urgency(row: Row) -> tuple[bool, int, str]:
    needy = bool(row.line and row.line.needs and not row.was)
    return not needy, ORDER.index(row.state.tone), row.name


def _trouble(stacks: Iterable[Mapping[str, Any]]) -> Iterable[Stacks]:
    found: dict[str, list[str]] = {}
    for stack in stacks:
        if stack["reason"] == Reason.ROLLED_BACK:
            word = "rolled back"
        elif stack["sync"] == "failed":
            word = "failed"
        elif stack["health"] in {"degraded", "missing"} and not stack["working"]:
            word = stack["health"]
        else:
            continue
        found.setdefault(word, []).append(stack["name"])
    for word in ("failed", "rolled back", "degraded", "missing"):
        if names := found.get(word):
            shown = tuple(map(_clip, names[:_NAMES]))
            tone = rolled_back(word) if word == "rolled back" else chip(word)
            yield Stacks(word=tone, names=shown, more=len(names) - len(shown))


def _remote(remote: Mapping[str, Any]) -> Remote:
    return Remote(
        name=_clip(remote["name"]),
        answer=remote["answer"],
        relation=_clip(remote["relation"]),
        lag=remote["lag"],
    )


def _clip(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
