"""Waiting until all services of a stack run as they are wanted, and do so for a while."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
from msgspec import Struct

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster
from agent.control.health.sightings import UnhealthyError
from agent.domain.errors import CancelledError
from agent.domain.swarm.model import SwarmService, SwarmTask

_LOOK_S = 0.5
_CRASHES = 3
_FAILED = frozenset({"failed", "rejected"})
_NOT_WELL = {
    "paused": "the Swarm has paused its update",
    "rollback_started": "the Swarm rolls it back",
    "rollback_paused": "the Swarm has paused its rollback",
    "rollback_completed": "the Swarm has rolled it back",
}


class Awaited(Struct, frozen=True, kw_only=True):
    """A stack that is waited for: its services by their short names, each with its image.

    ``timeout_s`` is the longest that it may take; ``cancel_reason`` says why the wait is to end.
    """

    stack: str
    images: Mapping[str, str]
    timeout_s: float
    cancel_reason: Callable[[], CancelledError | None]


class Gate:
    """``steady_s`` is for how long all tasks must have run. ``pulse`` is called at each look.

    ``confirm`` raises :class:`CancelledError` when another manager leads by now.
    """

    def __init__(
        self,
        engine: Engine,
        steady_s: float,
        pulse: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._steady_s = steady_s
        self._pulse = pulse
        self._confirm = confirm

    async def wait(self, awaited: Awaited) -> None:
        """Return once all is healthy.

        Raises :class:`UnhealthyError` once waiting does not help, and :class:`CancelledError` as
        soon as the wait is to end.
        """
        began, steady_since = time.monotonic(), 0.0
        while True:
            self._pulse()
            await self._confirm()
            services = {
                s.short_name: s for s in await cluster.services(self._engine, awaited.stack)
            }
            tasks = await cluster.tasks(self._engine, awaited.stack)
            now = time.monotonic()
            trouble = [
                said
                for name, image in sorted(awaited.images.items())
                if (said := _trouble(name, image, services.get(name), tasks))
            ]
            if not trouble:
                steady_since = steady_since or now
                if now - steady_since >= self._steady_s:
                    return
            else:
                steady_since = 0.0
                if now - began > awaited.timeout_s:
                    raise UnhealthyError(f"{trouble[0]} after {awaited.timeout_s:g} s")
            if reason := awaited.cancel_reason():
                raise type(reason)(f"{reason}, while {trouble[0]}") if trouble else reason
            await anyio.sleep(_LOOK_S)


def _trouble(
    name: str, image: str, service: SwarmService | None, tasks: Sequence[SwarmTask]
) -> str | None:
    """Why it is not as wanted. Raises :class:`UnhealthyError` if waiting does not help."""
    if service is None:
        return f"{name} is not there"
    if why := _NOT_WELL.get(service.update or ""):
        raise UnhealthyError(f"{name}: {why}: {_error(service, tasks) or service.update_message}")
    mine = [task for task in tasks if task.service_id == service.id and task.image == image]
    failed = [t for t in mine if t.state in _FAILED and t.created >= service.updated]
    if len(failed) >= _CRASHES:
        raise UnhealthyError(f"{name} fails again and again: {_error(service, tasks)}")
    if service.is_job:
        done = sum(task.state == "complete" for task in mine)
        wanted = service.wanted if service.wanted is not None else max(len(mine), 1)
        return None if done >= wanted else f"{name} has not ended yet"
    current = [task for task in mine if task.desired == "running"]
    wanted = service.wanted if service.wanted is not None else max(len(current), 1)
    running = sum(task.state == "running" for task in current)
    if running != wanted or service.update == "updating":
        why = _error(service, tasks)
        return f"{name} has {running} of {wanted} tasks" + (f": {why}" if why else "")
    return None


def _error(service: SwarmService, tasks: Sequence[SwarmTask]) -> str:
    """What was said last of a task of it that failed, or cannot run."""
    mine = [t for t in tasks if t.service_id == service.id and t.error]
    return max(mine, key=lambda task: task.at).error if mine else ""
