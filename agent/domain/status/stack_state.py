"""How each stack is: whether it is what Git says, and whether it is healthy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct

from agent.domain.container import Container
from agent.domain.outcome import Reason
from agent.domain.reconcile import plan
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.release import drift, health, identity
from agent.domain.release.health import Health
from agent.domain.release.release import Release
from agent.domain.status.facts import Facts, Ongoing
from agent.domain.status.held import Held

_FAILURES = {Reason.FAILED, Reason.BACKOFF}


class StackState(Struct, frozen=True, kw_only=True):
    """One stack as ``status`` shows it.

    ``sync`` is synced, pending, failed, held, suspended or unknown, ``health`` healthy,
    progressing, degraded, missing or unknown. ``reason`` is why it is not synced, or what is
    worth knowing of it, ``message`` the same for people, ``working`` what is being done with it.
    ``containers`` are its own, sorted by service; ``problems`` say what of them is not healthy.
    ``rolled_back`` is the commit of the release that is back in the place of one that failed.
    """

    name: str
    sync: str
    health: str
    reason: Reason | None
    message: str | None
    release: Release | None
    working: Ongoing | None
    containers: tuple[Container, ...]
    problems: tuple[str, ...]
    rolled_back: str | None = None


def states(facts: Facts, holds: Iterable[Held]) -> tuple[StackState, ...]:
    """All stacks that are declared, or of which something was deployed, by name.

    None of a manager that stands by: how they are is for the leader to say.
    """
    if facts.standby is not None:
        return ()
    held_now = {hold.subject: hold for hold in reversed(list(holds))}
    names = sorted({*facts.stacks, *facts.broken, *facts.releases})
    there: dict[str | None, list[Container]] = {}
    for container in facts.containers or ():
        if not container.one_off:
            there.setdefault(container.project, []).append(container)
    return tuple(_state(name, facts, held_now, there.get(name, [])) for name in names)


def _state(name: str, facts: Facts, holds: Mapping[str, Held], mine: list[Container]) -> StackState:
    release = facts.releases.get(name)
    working = next((each for each in facts.working if each.subject == name), None)
    sync, reason, message = _sync(name, facts, mine, holds.get(name), working)
    mine.sort(key=lambda c: (c.service or "", c.name))
    problems = _problems(release, mine)
    return StackState(
        name=name,
        sync=sync,
        health=_health(release, mine, problems) if facts.containers is not None else "unknown",
        reason=reason,
        message=message,
        release=release,
        working=working,
        containers=tuple(mine),
        problems=tuple(problems),
        rolled_back=release.revision if release and _went_back(sync, reason, release) else None,
    )


def _went_back(sync: str, reason: Reason | None, release: Release) -> bool:
    """Not where the way back has failed too: its containers may be any then."""
    return sync == "failed" and reason is Reason.ROLLED_BACK and not release.dirty


def _sync(
    name: str, facts: Facts, mine: list[Container], hold: Held | None, working: Ongoing | None
) -> tuple[str, Reason | None, str | None]:
    """The word, the reason, and that for people."""
    if suspension := Exemptions(suspensions=facts.suspensions).suspension(name):
        held = plan.suspended(suspension, facts.host)
        return "suspended", held.reason, held.message
    if working:
        return "pending", working.reason, working.message
    if failure := _failure(name, facts, hold):
        sync, reason, why = failure
        return sync, reason, reason.message(why)
    if hold:
        sync = "pending" if hold.settled else "failed" if hold.reason in _FAILURES else "held"
        return sync, hold.reason, hold.message
    sync, found, detail = _difference(name, facts, mine)
    return sync, found, found.message(detail) if found else None


def _failure(name: str, facts: Facts, hold: Held | None) -> tuple[str, Reason, str] | None:
    """The word, the reason and its detail of what cannot be deployed as it is declared."""
    if name in facts.broken:
        return "held", Reason.INVALID, facts.broken[name]
    digest, release = facts.stacks.get(name), facts.releases.get(name)
    failed, why = facts.rollbacks.get(name, (None, ""))
    if failed is not None and failed == digest:
        return "failed", Reason.ROLLED_BACK, why
    attempt = facts.attempts.get(name)
    up = digest is not None and release is not None and release.digest == digest
    if attempt and attempt.digest == (digest or "") and not up:
        known = hold.reason if hold and hold.reason in _FAILURES else Reason.BACKOFF
        return "failed", Reason.FAILED if attempt.permanent else known, attempt.error
    return None


def _difference(
    name: str, facts: Facts, mine: list[Container]
) -> tuple[str, Reason | None, str | None]:
    """The same of what is not, or not known to be, as it is declared; else of what it notes."""
    digest, release = facts.stacks.get(name), facts.releases.get(name)
    if digest is None:
        return "pending", Reason.LEFT, "it will be removed in the next cycle"
    if release is None:
        return "pending", Reason.NEW, None
    if release.digest != digest:
        return "pending", Reason.CHANGED, None
    if facts.containers is None:
        return "unknown", Reason.ENGINE_AWAY, None
    if drift.compare(release, mine):
        return "pending", Reason.DRIFTED, None
    if release.dirty:
        return "pending", Reason.INTERRUPTED, None
    if not release.services:
        return "synced", Reason.NOTHING_TO_RUN, None
    note = facts.notes.get(name)
    return "synced", Reason.NO_EFFECT if note else None, note


def _problems(release: Release | None, mine: list[Container]) -> list[str]:
    """What is not as it is when the stack is healthy, in words."""
    expected = {service.name: service for service in release.services} if release else {}
    one_shot = {service.name for service in expected.values() if service.one_shot}
    found = [f"{name} has no container" for name in sorted(set(expected) - _services(mine))]
    rivals = {c.id for c in identity.rivals(release.own if release else None, mine)}
    for c in mine:
        # What was evicted, or left behind by a failed release, does not make this one ill.
        left = expected and c.service not in expected and not c.alive
        if c.kept or c.id in rivals or left:
            continue
        condition = health.of(c, one_shot=c.service in one_shot)
        if condition is Health.UNHEALTHY:
            found.append(f"{c.name} is unhealthy")
        elif condition is Health.RESTARTING or condition in health.DOWN:
            ended = f" with {c.exit_code}" if c.exit_code is not None else ""
            found.append(f"{c.name} is {c.state}{ended}")
    return found


def _services(mine: Iterable[Container]) -> set[str | None]:
    return {container.service for container in mine}


def _health(release: Release | None, mine: list[Container], problems: list[str]) -> str:
    if not mine:
        return "missing" if release is None or release.services else "healthy"
    if problems:
        return "degraded"
    starting = any(health.of(c, one_shot=True) is Health.STARTING for c in mine)
    return "progressing" if starting else "healthy"
