"""Where the tasks of a service are to be, and which of them say how it is there now.

A place is a slot of a replicated service, or a node of a global one. Over time many tasks have it:
the Swarm replaces one that failed, or that runs an older spec, by a new one, and remembers the last
few. The newest one that was made from the present spec tells how the place is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from msgspec import Struct

from agent.domain.swarm.model import SwarmService, SwarmTask
from agent.domain.swarm.spec import template

GONE = frozenset({"shutdown", "remove"})
"""What the Swarm desires of a task that it has replaced, or does not want any more."""
FAILED = frozenset({"failed", "rejected"})
_NOT_COMPARED = {"Runtime", "Placement"}
"""The engine fills in the first of a task; who only changes the second keeps the tasks that fit."""


class At(Enum):
    """How one place is."""

    RUNS = "runs"
    DONE = "done"
    """It has ended well, which is its nature."""
    COMING = "coming"
    """A task is starting, or the Swarm is about to try again."""
    DEAD = "dead"
    """It has failed, and none follows."""
    OLDER = "older"
    """There still is one of an older spec, which the Swarm is about to replace."""


class Place(Struct, frozen=True):
    """One, with its task that counts."""

    at: At
    task: SwarmTask


def of(service: SwarmService, tasks: Iterable[SwarmTask]) -> list[Place]:
    """Those of the service, oldest task first; ``tasks`` are all of the Swarm, or of its stack."""
    newest: dict[str, tuple[bool, SwarmTask]] = {}
    for task in sorted(tasks, key=lambda each: (each.created, each.id)):
        if task.service_id == service.id:
            current, place = made_of(service, task), name(service, task)
            was_current, before = newest.get(place, (False, task))
            if was_current and before.desired not in GONE and _taken_back(task):
                continue
            if current or task.desired not in GONE:
                newest[place] = (current, task)
    found = [(_at(service, task, current=now), task) for now, task in newest.values()]
    return [Place(at, task) for at, task in found if at]


def _taken_back(task: SwarmTask) -> bool:
    """Whether the Swarm has given it up without a failure: it keeps the one before, if that fits.

    So it does once somebody takes back a constraint that no node met.
    """
    return task.desired in GONE and task.state not in {*FAILED, "complete"}


def name(service: SwarmService, task: SwarmTask) -> str:
    """Which place of the service it has."""
    return task.node_id if service.mode.startswith("global") else str(task.slot)


def wanted(service: SwarmService, places: Iterable[Place]) -> int:
    """How many are to be filled: of a global service those that there are."""
    return sum(1 for _ in places) if service.wanted is None else service.wanted


def serves(service: SwarmService, tasks: Iterable[SwarmTask]) -> bool:
    """Whether as many tasks of it run as it wants, whatever their spec; of a global one: any."""
    mine = [t for t in tasks if t.service_id == service.id and t.desired not in GONE]
    wanted = 1 if service.wanted is None else service.wanted
    return sum(task.state == "running" for task in mine) >= wanted


def made_of(service: SwarmService, task: SwarmTask) -> bool:
    """Whether the task was made from the present spec of the service, or need not be replaced."""
    present = _compared(template(service.spec))
    return task.iteration == service.iteration and present == _compared(task.spec)


def finishes(service: SwarmService) -> bool:
    """Whether it is the nature of its tasks to end."""
    policy = template(service.spec).get("RestartPolicy") or {}
    return service.is_job or policy.get("Condition") in {"none", "on-failure"}


def _compared(made_from: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in made_from.items() if key not in _NOT_COMPARED}


def _at(service: SwarmService, task: SwarmTask, *, current: bool) -> At | None:
    """None: there is to be no task any more."""
    if not current:
        return At.OLDER
    if task.state == "complete" and finishes(service):
        return At.DONE
    if task.desired not in GONE:
        return At.RUNS if task.state == "running" else At.COMING
    if task.state in FAILED:
        return At.DEAD
    return At.COMING if task.state == "complete" else None
