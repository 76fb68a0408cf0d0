"""How each stack is: whether it is what Git says, and whether it is healthy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.domain.container import Container
from agent.domain.outcome import Reason
from agent.domain.reconcile import plan
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.release import drift
from agent.domain.release.release import Release
from agent.domain.status.facts import Facts, Ongoing
from agent.domain.status.held import Held

ENGINE_AWAY = "the engine does not answer"
_FAILURES = {Reason.FAILED, Reason.BACKOFF}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackState:
    """One stack as ``status`` shows it.

    ``sync`` is synced, pending, failed, held, suspended or unknown, ``health`` healthy,
    progressing, degraded, missing or unknown. ``reason`` says why it is not synced, or what is
    worth knowing of it, ``working`` what is being done with it. ``containers`` are its own, sorted
    by service; ``ills`` say what of them is not healthy.
    """

    name: str
    sync: str
    health: str
    reason: str | None
    release: Release | None
    working: Ongoing | None
    containers: tuple[Container, ...]
    ills: tuple[str, ...]


def states(facts: Facts, holds: Iterable[Held]) -> tuple[StackState, ...]:
    """All stacks that are declared, or of which something was deployed, by name."""
    held_now = {hold.subject: hold for hold in reversed(list(holds))}
    names = sorted({*facts.stacks, *facts.broken, *facts.releases})
    return tuple(_state(name, facts, held_now) for name in names)


def _state(name: str, facts: Facts, holds: Mapping[str, Held]) -> StackState:
    release = facts.releases.get(name)
    mine = [c for c in facts.containers or () if c.project == name and not c.one_off]
    working = next((each for each in facts.working if each.subject == name), None)
    sync, reason = _sync(name, facts, mine, holds.get(name), working)
    mine.sort(key=lambda c: (c.service or "", c.name))
    ills = _ills(release, mine)
    return StackState(
        name=name,
        sync=sync,
        health=_health(release, mine, ills) if facts.containers is not None else "unknown",
        reason=reason,
        release=release,
        working=working,
        containers=tuple(mine),
        ills=tuple(ills),
    )


def _sync(
    name: str, facts: Facts, mine: list[Container], hold: Held | None, working: Ongoing | None
) -> tuple[str, str | None]:
    if suspension := Exemptions(suspensions=facts.suspensions).suspension(name):
        return "suspended", plan.suspended(suspension, facts.host).detail
    if working:
        return "pending", working.reason
    if name in facts.broken:
        return "held", facts.broken[name]
    digest, release = facts.stacks.get(name), facts.releases.get(name)
    up = digest is not None and release is not None and release.digest == digest
    failed, why = facts.rollbacks.get(name, (None, ""))
    if failed is not None and failed == digest:
        return "failed", why
    attempt = facts.attempts.get(name)
    if attempt and attempt.digest == (digest or "") and not up:
        return "failed", attempt.error
    if hold:
        if hold.settled:
            return "pending", hold.detail
        return "failed" if hold.reason in _FAILURES else "held", hold.detail
    if digest is None:
        return "pending", "no longer declared; it is about to be removed"
    if release is None:
        return "pending", "not deployed yet"
    if not up:
        return "pending", Reason.CHANGED
    if facts.containers is None:
        return "unknown", ENGINE_AWAY
    if drift.compare(release, mine):
        return "pending", Reason.DRIFTED
    if release.disturbed:
        return "pending", "its deployment was cut short, and is finished in the next cycle"
    return "synced", facts.notes.get(name) if release.services else "it has nothing to run"


def _ills(release: Release | None, mine: list[Container]) -> list[str]:
    """What is not as it is when the stack is healthy, in words."""
    expected = {service.name: service for service in release.services} if release else {}
    finishing = {service.name for service in expected.values() if service.finishes}
    found = [f"{name} has no container" for name in sorted(set(expected) - _services(mine))]
    for c in mine:
        # What a failed release has left behind does not make this one ill.
        if expected and c.service not in expected and not c.alive:
            continue
        if c.health == "unhealthy":
            found.append(f"{c.name} is unhealthy")
        elif c.state == "restarting" or not drift.settled(c, finishes=c.service in finishing):
            ended = f" with {c.exit_code}" if c.exit_code is not None else ""
            found.append(f"{c.name} is {c.state}{ended}")
    return found


def _services(mine: Iterable[Container]) -> set[str | None]:
    return {container.service for container in mine}


def _health(release: Release | None, mine: list[Container], ills: list[str]) -> str:
    if not mine:
        return "missing" if release is None or release.services else "healthy"
    if ills:
        return "degraded"
    return "progressing" if any(c.health == "starting" for c in mine) else "healthy"
