"""When trouble that may pass goes on for too long, by what was seen of a release until now.

Docker calls much normal that one look cannot tell from a broken release: a container crashes a few
times until its database answers, and a slow one is unhealthy before it is healthy. Such trouble is
final before the time of the release is over only if it goes on while everything that its service
depends on has been healthy for a while::

    began ─▶ all it depends on is healthy ─▶ PATIENCE × steady later ─┬▶ it crashes once more
                 │                                                    ├▶ it is unhealthy again
                 └─ not healthy any more: all begins anew             └▶ … are final

A service depends on those it names, on what these name, and on the stacks that come before its
own. One that names none may need any other of its stack that does not need it; but those that
crash themselves do not excuse each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, field
from msgspec.structs import replace

from agent.domain.release.health import PATIENCE, ContainerView, HealthFinding, Trouble
from agent.domain.repository import dependencies


class Mark(Struct, frozen=True):
    """Of one container. Times are in seconds, by a clock that is never set.

    Everything it depends on is healthy since ``settled_at`` (None: it is not), when it had failed
    ``streak`` probes in a row. It had been restarted ``restarts`` times when it was last looked at,
    the last time at ``crashed_at``.
    """

    settled_at: float | None
    streak: int
    restarts: int
    crashed_at: float


class Course(Struct, frozen=True):
    """What was seen of a release since it ``began``, or since nothing disturbed it any more.

    ``needs`` are the services that each service names, ``healthy_since`` is for those that are
    healthy, ``marks`` are by the IDs of containers.
    """

    began: float
    needs: Mapping[str, Collection[str]]
    healthy_since: Mapping[str, float] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)


def follow(
    course: Course,
    views: Iterable[ContainerView],
    findings: Collection[HealthFinding],
    now: float,
    *,
    before_healthy: bool = True,
) -> Course:
    """The course after one more look.

    ``findings`` are all that is not healthy in ``views``; ``before_healthy`` is whether the stacks
    are healthy that come before this one.
    """
    if not before_healthy:
        return Course(now, course.needs)
    troubled = {finding.service for finding in findings}
    crashing = {finding.service for finding in findings if finding.trouble is Trouble.CRASH_LOOP}
    healthy = {name: course.healthy_since.get(name, now) for name in course.needs.keys() - troubled}
    course = replace(course, healthy_since=healthy)
    marks: dict[str, Mark] = {}
    for sight in views:
        settled_at = _settled_at(course, sight.container.service or "", crashing)
        old = course.marks.get(sight.container.id)
        crashed_at = course.began
        if sight.restarts > (old.restarts if old else 0):
            crashed_at = now
        elif old:
            crashed_at = old.crashed_at
        streak = sight.streak
        if old and settled_at is not None and old.settled_at == settled_at:
            streak = min(old.streak, sight.streak)
        marks[sight.container.id] = Mark(settled_at, streak, sight.restarts, crashed_at)
    return replace(course, marks=marks)


def tried(
    course: Course,
    views: Iterable[ContainerView],
    findings: Iterable[HealthFinding],
    now: float,
    steady_s: float,
) -> list[HealthFinding]:
    """``findings``, those final that have gone on for too long; these come first."""
    by_id = {sight.container.id: sight for sight in views}
    judged: list[HealthFinding] = []
    for finding in findings:
        sight = by_id.get(finding.container.id) if finding.container else None
        mark = course.marks.get(sight.container.id) if sight else None
        if sight and mark and mark.settled_at is not None:
            patient_until = mark.settled_at + PATIENCE * steady_s
            final = now >= patient_until and (
                (finding.trouble is Trouble.CRASH_LOOP and mark.crashed_at >= patient_until)
                or (finding.trouble is Trouble.UNHEALTHY and _continues(sight, mark))
            )
            judged.append(replace(finding, final=finding.final or final))
        else:
            judged.append(finding)
    return sorted(judged, key=lambda each: not each.final)


def _continues(sight: ContainerView, mark: Mark) -> bool:
    """Whether it was found unhealthy again, since that could not be the fault of others."""
    retries = sight.check.retries if sight.check else 1
    return sight.streak >= 2 * retries and sight.streak - mark.streak >= retries


def _settled_at(course: Course, service: str, crashing: Collection[str]) -> float | None:
    """Since when all that the service depends on is healthy; None: it is not."""
    others = course.needs.keys() - {service}
    named = others & _all_needs(course, service)
    maybe = set() if named else {n for n in others if service not in _all_needs(course, n)}
    awaited = named | (maybe - set(crashing))
    if not awaited <= course.healthy_since.keys():
        return None
    return max((course.healthy_since[name] for name in awaited), default=course.began)


def _all_needs(course: Course, name: str) -> set[str]:
    return dependencies.reachable(course.needs.get(name, ()), course.needs)
