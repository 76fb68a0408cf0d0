"""Waiting until a release is healthy, by the engine's events.

What the release does by itself is judged. What somebody else does to it meanwhile is put back::

    look ─▶ all is started and healthy ──────────────────────▶ the containers
      ▲ ├─▶ removed, stopped, paused or replaced from outside
      │ │       ├─ not too often yet ─▶ put back, its time begins anew ─┐
      │ │       └─ too often, or its time is over ─▶ InterferenceError  │
      │ ├─▶ not healthy for good, or its time is over ─▶ UnhealthyError │
      │ └─▶ not healthy yet ─▶ wait for an event ─┐                     │
      └───────────────────────────────────────────┴─────────────────────┘

Where services wait for each other, Compose starts one after the other beside these looks, and
gives up as soon as one is unhealthy; it is begun again while that one may still become healthy. Its
time is ``health_timeout``, but never shorter than what the health checks declare that wait for
each other. When trouble is final before that: :mod:`agent.domain.release.patience`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager

from agent.adapters.compose.compose import StillWaitingError
from agent.adapters.compose.errors import HookError
from agent.adapters.engine.engine import Engine
from agent.adapters.tasks import task_group
from agent.control.health import sightings
from agent.control.health.activity import Activity, Listener
from agent.control.health.awaited import Awaited, Steps
from agent.control.health.sightings import UnhealthyError
from agent.control.health.starter import Pauses, Starter
from agent.domain.container import Container
from agent.domain.errors import (
    CommitdError,
    HeldError,
    InterferenceError,
    PermanentError,
    SupersededError,
    TransientError,
)
from agent.domain.release import health, health_check, patience
from agent.domain.release.health import ContainerView, HealthFinding, Known, Trouble
from agent.domain.release.patience import Course

log = logging.getLogger("commitd.gate")

_BLINK_S, _THINK_ANYWAY_S = 0.1, 2.0
"""Without any event: a newer commit is no event of the engine."""
_LOOK_ANYWAY_S = 30.0
"""A stream can fall silent without ending."""
_KILLED = {137, 143}
"""Ended from outside, perhaps with the engine: no fault of the release, unless it happens again."""
_PUT_BACK_AFTER_S = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Since the time before, for each time that a release is put back: two tools that fight over a
container do not spin."""
_PASSING = {Trouble.CRASH_LOOP, Trouble.UNHEALTHY}
"""No event tells of a probe that fails once more."""


class Gate:
    """``steady_s`` is for how long a container without a health check must have run.

    ``pulse`` is called at each look, as a sign of life: a wait may take an hour.
    """

    def __init__(
        self, engine: Engine, listener: Listener, steady_s: float, pulse: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.listener = listener
        self.steady_s = steady_s
        self.pulse = pulse

    def listening(self, project: str) -> AbstractAsyncContextManager[Activity]:
        """What happens to the project from now on, for as long as the block lasts."""
        return self.listener.hear(project)

    async def wait(self, awaited: Awaited, activity: Activity, steps: Steps) -> list[Container]:
        """The containers once all is healthy.

        Raises :class:`UnhealthyError`, with the last words of the container that is to blame, once
        waiting does not help; :class:`InterferenceError` if somebody keeps undoing it, and
        :class:`TransientError` if it was killed; :class:`CancelledError` as soon as the wait is to
        end, :class:`HeldError` if the stack is suspended meanwhile.
        """
        async with task_group() as group:
            start = Starter(group, steps, activity)
            found = await _Vigil(self, awaited, activity, steps, start).until_healthy()
            group.cancel_scope.cancel()
        return found


class _Vigil:
    """One release that is waited for: what was seen of it, and how long it still has."""

    def __init__(
        self, gate: Gate, awaited: Awaited, activity: Activity, steps: Steps, start: Starter
    ) -> None:
        self._engine, self._steady_s, self._pulse = gate.engine, gate.steady_s, gate.pulse
        self._a = awaited
        self._activity = activity
        self._steps = steps
        self._start = start
        self._repairs = Pauses(_PUT_BACK_AFTER_S)
        self._needs = {name: tuple(each.needs) for name, each in awaited.services.items()}
        self._hooks = any(each.has_hooks for each in awaited.services.values())
        self._ages = health.Ages()
        self._limit_s = awaited.timeout_s
        self._began = time.monotonic()
        self._course = Course(self._began, self._needs)
        self._sight = sightings.Sight(self._engine, activity)
        self._looked_at = self._began
        self._passing = False
        self._settled = False

    async def until_healthy(self) -> list[Container]:
        """Look, and do what follows from it, until there is nothing more to do."""
        await self._sight.begin()
        while True:
            self._activity.quiet()
            if self._start.done and not self._settled:
                await self._settle()
            self._start.begin_if_due(self._left_s())
            views, findings = await self._judged()
            self._pulse()
            undone = [finding for finding in findings if finding.outside]
            ends = not findings and self._settled
            final = bool(findings) and (findings[0].final or self._left_s() <= 0)
            if (ends or undone or final) and not self._sight.fresh:
                self._looked_at = -math.inf  # events that are on their way may say otherwise
                continue
            if ends:
                return [sight.container for sight in views]
            if undone:
                pause_s = await self._put_back(undone)
            elif any(self._of_stale(finding) for finding in findings):
                await self._start.cancel()
                await self._steps.started()
                self._start.again()
                continue
            elif final:
                raise await self._verdict(findings)
            else:
                await self._think_of_start(findings)
                pause_s = self._pause_s(views)
            await self._activity.wait(min(pause_s, max(self._left_s(), _BLINK_S)))
            # For a newer commit Compose is ended while it waits, but not amid a hook. It does its
            # work to the end when the agent stops, so that the next one finds all of it started.
            reason = self._a.cancel_reason()
            superseded = isinstance(reason, SupersededError)
            if reason and not (self._start.runs and (self._hooks or not superseded)):
                await self._start.cancel()
                raise type(reason)(f"{reason}, while {findings[0]}") if findings else reason

    def _of_stale(self, finding: HealthFinding) -> bool:
        """Whether it may be the fault of older files, for which others must not wait in vain."""
        return finding.trouble in _PASSING and finding.service in self._steps.stale

    def _left_s(self) -> float:
        return self._began + self._limit_s - time.monotonic()

    async def _settle(self) -> None:
        if await self._steps.started():
            self._begin()
        self._looked_at = -math.inf
        self._settled = True

    def _begin(self) -> None:
        """Its time begins anew: what it did until now was done to it."""
        self._began = time.monotonic()
        self._course = Course(self._began, self._needs)

    async def _put_back(self, undone: Sequence[HealthFinding]) -> float:
        """Have again what somebody undid, if it is time for that; seconds until the next look."""
        pause_s = self._repairs.due_in_s()
        if pause_s is None or self._left_s() <= 0:
            raise InterferenceError(health.summary(undone))
        if pause_s > 0:
            return pause_s
        await self._start.cancel()
        await self._steps.put_back(undone)
        self._repairs.note()
        self._start.again()
        self._settled = False
        # What crashed because of that is no fault of the release either.
        await self._sight.begin()
        self._begin()
        return 0.0

    async def _think_of_start(self, findings: Sequence[HealthFinding]) -> None:
        """Compose has given up because of a service that may still become healthy."""
        error = self._start.error
        if error is None:
            return
        if isinstance(error, HeldError):
            raise error
        if isinstance(error, HookError):
            raise await sightings.hook_failed(self._engine, self._a.project, error, self._a.quoting)
        if not isinstance(error, PermanentError | StillWaitingError):
            if not await self._steps.mend():
                raise error
            self._start.again_later()
            return
        others = [finding for finding in findings if not finding.waits]
        if self._start.unexplained(None if others else error):
            raise error
        if not any(finding.trouble is Trouble.UNHEALTHY for finding in others):
            self._start.again_later()

    async def _judged(self) -> tuple[list[ContainerView], list[HealthFinding]]:
        anew = self._passing or time.monotonic() - self._looked_at >= _LOOK_ANYWAY_S
        looked = await self._sight.look(anew=anew)
        if self._sight.fresh:
            self._looked_at = time.monotonic()
        views = [self._ages.of(view, time.monotonic()) for view in looked]
        pending = {
            sight.container.id
            for sight in views
            if not self._start.done and (sight.container.started or 0) < self._steps.began_at
        }
        made = {container.id for container in self._steps.made}
        known = Known(self._activity.stopped, made, pending)
        findings = health.judge(self._a.services, views, self._steady_s, known)
        self._passing = any(finding.trouble in _PASSING for finding in findings)
        now = time.monotonic()
        self._course = patience.follow(
            self._course, views, findings, now, before_healthy=await self._before_healthy(findings)
        )
        own = dict.fromkeys(self._a.services, self._steady_s)
        for sight in views:
            if sight.check and (name := sight.container.service) in own:
                own[name] = max(own[name], sight.check.declared_s)
        longest_s = health_check.longest(own, self._needs) + self._steady_s
        self._limit_s = max(self._limit_s, longest_s)
        return views, patience.tried(self._course, views, findings, now, self._steady_s)

    async def _before_healthy(self, findings: Iterable[HealthFinding]) -> bool:
        """Whether the stacks are healthy that come before, if that matters now."""
        if not any(finding.trouble in _PASSING for finding in findings):
            return True
        for project in self._a.after:
            if not health.all_healthy(await self._engine.containers(project)):
                return False
        return True

    def _pause_s(self, views: Sequence[ContainerView]) -> float:
        """Until the next look, if nothing happens."""
        recent = [left for s in views if s.up_s and (left := s.steady_in_s(self._steady_s))]
        return min([_THINK_ANYWAY_S, *recent])

    async def _verdict(self, findings: Sequence[HealthFinding]) -> CommitdError:
        worst = findings[0]
        message = health.summary(findings)
        if not worst.final:
            message += f" after {self._limit_s:g} s"
        if worst.container is None:
            return UnhealthyError(message)
        words = await sightings.last_words(self._engine, worst.container, self._a.quoting)
        killed = worst.trouble is Trouble.EXITED and worst.container.exit_code in _KILLED
        return self._a.quoting.error(TransientError if killed else UnhealthyError, message, words)
