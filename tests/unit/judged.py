"""A host to be judged: one that is as it should be, with what a test says otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from agent.domain.container import Container
from agent.domain.outcome import Action, Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.release.release import Attempt, Release
from agent.domain.status.facts import Facts, LastLook, Ongoing
from tests.unit.builders import SHA, running

LOOKED = "2026-01-02T09:14:00.000Z"
LOOK = LastLook(LOOKED)
LONG_AGO = "2026-01-02T08:00:00.000Z"
NOW = datetime.fromisoformat("2026-01-02T09:14:30Z").timestamp()
PATIENCE = 900.0

GITEA: Mapping[str, Any] = {
    "name": "gitea", "reachable": True, "head": SHA, "relation": "same", "answer": "head",
    "checked_at": LOOKED, "error": None, "down_since": None, "lag": 0, "patience": PATIENCE,
}  # fmt: skip
DOWN: Mapping[str, Any] = {
    **GITEA, "reachable": False, "error": "refused", "down_since": "2026-01-02T09:10:00.000Z"
}  # fmt: skip
SILENT: Mapping[str, Any] = {**DOWN, "down_since": LONG_AGO}


def hold(
    subject: str, reason: Reason, detail: str = "why", *, person: bool = False
) -> dict[str, Any]:
    """As the journal keeps one."""
    return {
        "subject": subject, "reason": reason, "detail": detail, "since": LOOKED,
        "needs_person": person,
    }  # fmt: skip


def action(kind: str, subject: str, message: str = "why", *, seconds: int = 8) -> Ongoing:
    """Something that began so many seconds ago."""
    at = datetime.fromtimestamp(NOW - seconds).astimezone().isoformat()
    return Ongoing(
        action=Action(kind), subject=subject, reason=Reason.CHANGED, message=message, since=at
    )


def facts(
    released: Iterable[Release] = (),
    containers: Iterable[Container] | None = None,
    *,
    stacks: dict[str, str] | None = None,
    broken: dict[str, str] | None = None,
    remotes: Iterable[Mapping[str, Any]] = (GITEA,),
    holds: Iterable[dict[str, Any]] = (),
    attempts: Iterable[Attempt] = (),
    suspensions: Iterable[Suspension] = (),
    rollbacks: dict[str, tuple[str, str]] | None = None,
    approved: Iterable[str] = (),
    enrolled: bool = True,
    running_agent: bool = True,
    look: LastLook = LOOK,
    working: Iterable[Ongoing] = (),
) -> Facts:
    """Without ``containers``, all that was released runs."""
    made = list(released)
    found = [c for r in made for c in running(r)] if containers is None else containers
    return Facts(
        host="media",
        now=NOW,
        enrolled=enrolled,
        declared={
            "revision": {"sha": SHA, "author": "Ada", "committed_at": "t", "subject": "s"},
            "stacks": {"web": "d1"} if stacks is None else stacks,
            "broken": broken or {},
        },
        attempted={"sha": "f" * 40},
        remotes=tuple(remotes),
        releases={r.stack: r for r in made},
        attempts={a.stack: a for a in attempts},
        holds=tuple(holds),
        suspensions=tuple(suspensions),
        rollbacks=rollbacks or {},
        approved=frozenset(approved),
        containers=tuple(found),
        running=running_agent,
        look=look,
        patience=PATIENCE,
        working=tuple(working),
    )
