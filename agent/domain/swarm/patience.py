"""When trouble of a stack on a Swarm that may pass has gone on for too long.

trouble ─┬▶ a task fails: others of the stack may not be there yet. Final once one fails again
         │    PATIENCE × steady after all others are healthy that do not crash themselves
         ├▶ a node refuses it, or cannot get its image: once that has gone on for so long
         ├▶ no node fits: once that has gone on for so long
         └▶ it has failed and none follows: a moment later
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec.structs import replace

from agent.domain.outcome import Reason
from agent.domain.release import health_check
from agent.domain.release.health import PATIENCE
from agent.domain.release.health_check import HealthCheck
from agent.domain.swarm import spec
from agent.domain.swarm.course import Course
from agent.domain.swarm.finding import CRASHING, Finding
from agent.domain.swarm.model import SwarmService

_SETTLE_S = 2.0
"""What the Swarm does in consequence of something, it does within this time."""
_STUCK = {Reason.NO_NODE, Reason.TASK_ENDED}
_DEFAULT_MONITOR_S, _DEFAULT_GRACE_S = 5.0, 10.0
_NANO = 1e9


def noted(course: Course, found: Mapping[str, Finding | None], now: float) -> Course:
    """The course with what is healthy now (None), and what is stuck, of all services."""
    healthy = {n: course.healthy_since.get(n, now) for n, it in found.items() if it is None}
    stuck = {
        n: course.stuck_since.get(n, now) for n, it in found.items() if it and it.reason in _STUCK
    }
    return replace(course, healthy_since=healthy, stuck_since=stuck)


def tried(
    course: Course, found: Mapping[str, Finding | None], now: float, steady_s: float
) -> list[Finding]:
    """All that is found, final where it has gone on for so long that it does not pass by itself."""
    return [
        replace(it, final=it.final or _lasts(course, it, found, now, steady_s))
        for it in found.values()
        if it
    ]


def _lasts(
    course: Course, it: Finding, found: Mapping[str, Finding | None], now: float, steady_s: float
) -> bool:
    patience_s, last = PATIENCE * steady_s, course.last(it.service)
    if it.outside or it.reason is None:
        return False
    if it.reason in _STUCK:
        needed_s = _SETTLE_S if it.reason is Reason.TASK_ENDED else patience_s
        return now - course.stuck_since.get(it.service, now) >= needed_s
    if last is None:
        return False
    settled_at: float | None = last.first_at
    if it.reason in CRASHING:
        settled_at = _settled_at(course, it.service, found, last.first_at)
    return settled_at is not None and last.last_at >= settled_at + patience_s


def _settled_at(
    course: Course, service: str, found: Mapping[str, Finding | None], first_at: float
) -> float | None:
    """Since when all others of the stack are healthy that do not crash too; None: they are not."""
    others = {n for n, it in found.items() if n != service and not (it and it.reason in CRASHING)}
    if not others <= course.healthy_since.keys():
        return None
    return max((first_at, *(course.healthy_since[name] for name in others)))


def overdue(finding: Finding, after_s: float) -> Finding:
    """The finding, final because the time of the stack is over."""
    said = f"{finding.said} after {after_s:g} s"
    return replace(finding, said=said, reason=finding.reason or Reason.TIMEOUT, final=True)


def limit_s(services: Iterable[SwarmService], nodes: int, timeout_s: float) -> float:
    """How long a stack may take on so many nodes: never shorter than its updates declare."""
    longest_s = max((_declared_s(each, nodes) for each in services), default=0.0)
    return max(timeout_s, min(longest_s, health_check.LONGEST_S))


def _declared_s(service: SwarmService, nodes: int) -> float:
    """How long its update may take, by what it declares: a few tasks at a time."""
    update, container = service.spec.get("UpdateConfig") or {}, spec.container(service.spec)
    tasks = (nodes if service.wanted is None else service.wanted) or 1
    at_once = update.get("Parallelism", 1) or tasks  # 0: all
    between_s = max(_seconds(update, "Monitor") or _DEFAULT_MONITOR_S, _seconds(update, "Delay"))
    grace_s = _seconds(container, "StopGracePeriod") or _DEFAULT_GRACE_S
    one_s = _check_s(container.get("Healthcheck") or {}) + grace_s
    return float(-(-tasks // at_once) * (one_s + between_s))


def _check_s(raw: Mapping[str, Any]) -> float:
    if (raw.get("Test") or ["NONE"])[0] == "NONE":
        return 0.0
    interval_s, timeout_s = _seconds(raw, "Interval"), _seconds(raw, "Timeout")
    start_s, between_s = _seconds(raw, "StartPeriod"), _seconds(raw, "StartInterval")
    retries = int(raw.get("Retries") or 0)
    check = HealthCheck.of(interval_s, timeout_s, retries, start_s, between_s)
    return check.declared_s


def _seconds(raw: Mapping[str, Any], key: str) -> float:
    return float(raw.get(key) or 0) / _NANO
