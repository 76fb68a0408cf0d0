"""What ``status`` says: the journal and a listing of the engine, put side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.domain import drift, plan
from agent.domain.container import Container
from agent.domain.exempt import Exemptions, Suspension
from agent.domain.model import Attempt, Reason, Release


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a status is made of. ``containers`` is None when the engine does not answer.

    ``rollbacks`` are stacks that went back to an older release: to the digest that failed, and why.
    ``changed_at`` is when something was last done here (ISO 8601).
    ``declared``, ``attempted``, ``remotes``, ``holds`` and ``undeclared`` are as the journal
    keeps them.
    """

    host: str
    enrolled: bool
    declared: Mapping[str, Any] | None
    attempted: Mapping[str, Any] | None
    remotes: tuple[Mapping[str, Any], ...]
    releases: Mapping[str, Release]
    attempts: Mapping[str, Attempt]
    holds: tuple[Mapping[str, Any], ...]
    undeclared: tuple[Mapping[str, Any], ...]
    suspensions: tuple[Suspension, ...]
    rollbacks: Mapping[str, tuple[str, str]]
    containers: tuple[Container, ...] | None
    changed_at: str | None = None


def status(facts: Facts) -> dict[str, Any]:
    """The document of ``status --json``."""
    declared: Mapping[str, Any] = facts.declared or {}
    revision: Mapping[str, Any] = declared.get("revision") or {}
    attempted: Mapping[str, Any] = facts.attempted or {}
    stacks = [_stack(name, facts) for name in _names(facts)]
    applied = revision.get("sha")
    remote = next((r["name"] for r in facts.remotes if applied and r["head"] == applied), None)
    return {
        "host": facts.host,
        "enrolled": facts.enrolled,
        "verdict": _verdict(facts, stacks, applied, remote) + _silence(facts),
        "since": facts.changed_at,
        "revision": {
            "applied": applied,
            "attempted": attempted.get("sha"),
            "remote": remote,
            "author": revision.get("author"),
            "committed_at": revision.get("committed_at"),
            "subject": revision.get("subject"),
        },
        "remotes": [
            {
                key: remote[key]
                for key in ("name", "reachable", "head", "relation", "checked_at", "error")
            }
            | {"down_since": remote["down_since"], "lag": remote["lag"]}
            for remote in facts.remotes
        ],
        "stacks": stacks,
        "undeclared": list(facts.undeclared),
        "holds": [
            {
                "subject": hold["subject"],
                "reason": f"{hold['reason']}: {hold['detail']}",
                "since": hold["since"],
                "needs_person": hold["needs_person"],
            }
            for hold in _holds(facts)
        ],
    }


def _holds(facts: Facts) -> list[Mapping[str, Any]]:
    """What the last cycle held, and the suspensions as they are now, which need no cycle."""
    held = [hold for hold in facts.holds if hold["reason"] != Reason.SUSPENDED.value]
    for suspension in facts.suspensions:
        hold = plan.suspended(suspension, facts.host)
        held.append(
            {
                "subject": hold.subject,
                "reason": hold.reason.value,
                "detail": hold.detail,
                "since": suspension.since,
                "needs_person": False,
            }
        )
    return held


def _names(facts: Facts) -> list[str]:
    declared = facts.declared or {}
    listed = {*declared.get("stacks", {}), *declared.get("broken", {})}
    return sorted(listed | set(facts.releases))


def _stack(name: str, facts: Facts) -> dict[str, Any]:
    release = facts.releases.get(name)
    mine = [c for c in facts.containers or () if c.project == name and not c.one_off]
    sync, reason = _sync(name, facts, mine)
    return {
        "name": name,
        "sync": sync,
        "health": _health(release, mine) if facts.containers is not None else "missing",
        "revision": release.revision if release else None,
        "reason": reason,
        "services": [
            {"name": c.service, "image": c.image, "state": c.state, "health": c.health}
            for c in sorted(mine, key=lambda c: (c.service or "", c.name))
        ],
    }


def _sync(name: str, facts: Facts, mine: Iterable[Container]) -> tuple[str, str | None]:
    if suspension := Exemptions(suspensions=facts.suspensions).suspension(name):
        return "suspended", plan.suspended(suspension, facts.host).detail
    declared = facts.declared or {}
    held = next(
        (
            hold
            for hold in facts.holds
            if hold["subject"] == name and hold["reason"] != Reason.SUSPENDED.value
        ),
        None,
    )
    attempt = facts.attempts.get(name)
    release = facts.releases.get(name)
    digest = declared.get("stacks", {}).get(name)
    if name in declared.get("broken", {}):
        return "held", declared["broken"][name]
    bad, why = facts.rollbacks.get(name, (None, ""))
    if bad is not None and bad == digest:
        return "failed", why
    if attempt and attempt.digest == digest and (release is None or release.digest != digest):
        return "failed", attempt.error
    if held:
        return "held", held["detail"]
    if digest is None:
        return "pending", "no longer declared, about to go"
    if release is None:
        return "pending", "not deployed yet"
    if release.digest != digest:
        return "pending", "its files changed"
    if facts.containers is None:
        return "pending", "the engine does not answer"
    if drift.compare(release, mine):
        return "pending", "what runs is not what was deployed"
    return "synced", None if release.services else "it has nothing to run"


def _health(release: Release | None, mine: list[Container]) -> str:
    if not mine:
        return "healthy" if release and not release.services else "missing"
    expected = {service.name: service for service in release.services} if release else {}
    if expected:  # what a failed release has left behind does not make this one ill
        mine = [c for c in mine if c.service in expected or c.alive]
    finishing = {service.name for service in expected.values() if service.finishes}
    if any(
        c.health == "unhealthy"
        or c.state == "restarting"
        or not drift.settled(c, finishes=c.service in finishing)
        for c in mine
    ):
        return "degraded"
    if set(expected) - {c.service for c in mine}:
        return "degraded"
    return "progressing" if any(c.health == "starting" for c in mine) else "healthy"


def _verdict(
    facts: Facts, stacks: list[dict[str, Any]], applied: str | None, remote: str | None
) -> str:
    if facts.containers is None:
        return "the engine does not answer"
    if applied is None:
        return "nothing was ever applied here"
    where = applied[:7] + (f" ({remote})" if remote else "")
    waiting = sum(1 for hold in facts.holds if hold["needs_person"])
    if waiting:
        return f"at {where}; {waiting} waiting for a person"
    if any(suspension.stack is None for suspension in facts.suspensions):
        return f"suspended at {where}"
    off = [stack["name"] for stack in stacks if stack["sync"] not in {"synced", "suspended"}]
    if off:
        return f"at {where}; not in sync: {', '.join(off)}"
    sick = [
        stack["name"]
        for stack in stacks
        if stack["health"] not in {"healthy", "progressing"} and stack["sync"] != "suspended"
    ]
    if sick:
        return f"at {where}; degraded: {', '.join(sick)}"
    held = [hold["subject"] for hold in facts.holds if hold["reason"] != Reason.SUSPENDED.value]
    if held:
        return f"at {where}; held: {', '.join(held)}"
    paused = [stack["name"] for stack in stacks if stack["sync"] == "suspended"]
    return f"in sync with {where}" + (f"; suspended: {', '.join(paused)}" if paused else "")


def _silence(facts: Facts) -> str:
    """That nobody can tell the host anything new, and since when; empty while one remote can."""
    since = [remote["down_since"] for remote in facts.remotes if not remote["reachable"]]
    if not since or len(since) < len(facts.remotes) or None in since:
        return ""
    return f" (no remote answers since {max(since)[:19]})"
