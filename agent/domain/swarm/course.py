"""What was seen of a stack on a Swarm since its deploy began: one look is not enough to judge it.

The Swarm remembers few tasks of each place, so those that fail are counted as they are seen. How
long a task has run is measured by this machine's clock: those of the nodes may be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from agent.domain.release.health import CRASHES, PATIENCE
from agent.domain.swarm import places
from agent.domain.swarm.model import SwarmNode, SwarmService, SwarmTask
from agent.domain.swarm.places import FAILED, At, Place


class Look(Struct, frozen=True, kw_only=True):
    """What a manager lists of one stack, and of the nodes.

    ``now`` is in seconds by a clock that is never set, ``wall`` since the epoch.
    """

    services: Sequence[SwarmService]
    tasks: Sequence[SwarmTask]
    nodes: Sequence[SwarmNode]
    now: float
    wall: float


class Failures(Struct, frozen=True, kw_only=True):
    """Of one place: how many tasks have failed there since the deploy, and the last of them.

    Times are by the clock that is never set.
    """

    count: int
    first_at: float
    last_at: float
    task: SwarmTask


class Course(Struct, frozen=True, kw_only=True):
    """Of one stack whose deploy ``began`` then, in seconds since the epoch.

    ``specs`` are those of its services at the first look, None before that. ``counted`` are the IDs
    of tasks whose failure is known; those since the deploy are in ``failures``, by service and
    place. ``running_since`` is by task, ``healthy_since`` and ``stuck_since`` by service.
    """

    began: float
    specs: Mapping[str, Mapping[str, Any]] | None = None
    counted: frozenset[str] = frozenset()
    failures: Mapping[tuple[str, str], Failures] = field(default_factory=dict)
    running_since: Mapping[str, float] = field(default_factory=dict)
    healthy_since: Mapping[str, float] = field(default_factory=dict)
    stuck_since: Mapping[str, float] = field(default_factory=dict)

    def last(self, service: str) -> Failures | None:
        """Of the place of the service where most tasks have failed."""
        mine = [each for (name, _), each in self.failures.items() if name == service]
        return max(mine, key=lambda each: (each.count, each.last_at), default=None)

    def steady(
        self, service: SwarmService, found: Sequence[Place], now: float, steady_s: float
    ) -> bool:
        """Whether all its places are filled, and have been for so long.

        Where tasks have failed a few times the next one must run for longer.
        """
        for place in found:
            failures = self.failures.get((service.short_name, places.name(service, place.task)))
            needed_s = steady_s * (PATIENCE if failures and failures.count >= CRASHES else 1)
            since = self.running_since.get(place.task.id, now)
            runs = place.at is At.RUNS and not service.is_job and now - since >= needed_s
            if not runs and place.at is not At.DONE:
                return False
        return len(found) >= places.wanted(service, found)


def follow(course: Course, look: Look) -> Course:
    """The course after one more look."""
    first = course.specs is None
    services = {service.id: service for service in look.services}
    counted = set(course.counted & {task.id for task in look.tasks})
    failures = dict(course.failures)
    running: dict[str, float] = {}
    for task in sorted(look.tasks, key=lambda each: (each.created, each.id)):
        service = services.get(task.service_id)
        if service is None:
            continue
        if task.state == "running":
            age_s = max(0.0, min(look.wall - task.at, look.wall - task.created)) if first else 0.0
            running[task.id] = course.running_since.get(task.id, look.now - age_s)
        if task.id in counted or not _has_failed(service, task):
            continue
        counted.add(task.id)
        if task.created < course.began and (first or not places.made_of(service, task)):
            continue  # it is of what was there before
        key = (service.short_name, places.name(service, task))
        before = failures.get(key)
        failures[key] = Failures(
            count=before.count + 1 if before else 1,
            first_at=before.first_at if before else look.now,
            last_at=look.now,
            task=task,
        )
    specs = {service.short_name: service.spec for service in look.services}
    return replace(
        course,
        specs={**specs, **(course.specs or {})},
        counted=frozenset(counted),
        failures=failures,
        running_since=running,
    )


def _has_failed(service: SwarmService, task: SwarmTask) -> bool:
    return task.state in FAILED or (task.state == "complete" and not places.finishes(service))
