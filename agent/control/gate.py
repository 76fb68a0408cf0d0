"""Waiting until a release is up and well, by the engine's events.

What the release does by itself is judged. What somebody else does to it meanwhile is put back::

    look ─▶ all well ────────────────────────────────────────▶ the containers
      ▲ ├─▶ removed, stopped, paused or replaced from outside
      │ │       ├─ not too often yet ─▶ put back, its time begins anew ─┐
      │ │       └─ too often, or its time is over ─▶ InterferenceError  │
      │ ├─▶ not well for good, or its time is over ─▶ NotWellError      │
      │ └─▶ not well yet ─▶ wait for an event ─┐                        │
      └────────────────────────────────────────┴────────────────────────┘
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any

import anyio

from agent.adapters.compose import StillWaitingError
from agent.adapters.compose_errors import HookError
from agent.adapters.containers import from_inspect
from agent.adapters.engine import Engine, Event
from agent.adapters.tasks import task_group
from agent.domain import gate, redact
from agent.domain.container import Container
from agent.domain.errors import (
    CommitdError,
    HeldError,
    InterferenceError,
    PermanentError,
    TransientError,
)
from agent.domain.gate import Expected, Finding, Outside, Sight, Trouble

log = logging.getLogger("commitd.gate")

_LOOK_ANYWAY_S = 2.0
"""Without any event: a newer commit is no event of the engine."""
_RECONNECT_S = 1.0
_KILLED = {137, 143}
"""Ended from outside, perhaps with the engine: no fault of the release, unless it happens again."""
_LOG_LINES, _LOG_CHARS = 5, 400
_HOOK_ENDS_S = 5.0
_LAST_WORDS = "; its last words: "
_PUT_BACK_AFTER_S = (0.0, 2.0, 4.0, 8.0, 16.0)
"""Since the time before, for each time that a release is put back: two tools that fight over a
container do not spin."""

PutBack = Callable[[Sequence[Finding]], Awaitable[Sequence[Container]]]
"""Puts right what somebody did to a release; the containers there are then."""


class NotWellError(PermanentError):
    """A release that came up is not well; the same input would do the same again."""


class Activity:
    """What the engine tells of one project from before its release is started until it is well.

    ``stopped`` are the IDs of containers that somebody told to end, and did not start again.
    """

    def __init__(self) -> None:
        self.stopped: set[str] = set()
        self._changed = anyio.Event()

    def note(self, event: Event) -> None:
        """Never waits."""
        if event.action.startswith("exec_"):
            return  # of health checks: what comes of one is an event of its own
        if event.stops:
            self.stopped.add(event.id)
        elif event.action in {"start", "destroy"}:
            self.stopped.discard(event.id)
        self._changed.set()

    def quiet(self) -> None:
        """What happens from now on ends the next wait."""
        self._changed = anyio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Until something has happened since it was :meth:`quiet`."""
        with anyio.move_on_after(timeout_s):
            await self._changed.wait()


class Gate:
    """``steady_s`` is for how long a container without a health check must have run."""

    def __init__(self, engine: Engine, steady_s: float) -> None:
        self._engine = engine
        self._steady_s = steady_s

    @asynccontextmanager
    async def listening(self, project: str) -> AsyncIterator[Activity]:
        """What happens to the project from now on, for as long as the block lasts."""
        activity = Activity()
        async with task_group() as group:
            group.start_soon(self._listen, project, activity)
            yield activity
            group.cancel_scope.cancel()

    async def _listen(self, project: str, activity: Activity) -> None:
        """Without the stream all takes a little longer."""
        while True:
            try:
                await self._engine.watch(activity.note, lambda: None, project)
            except Exception as err:  # noqa: BLE001  it must not end the wait
                log.debug("%s: %s", project, err)
            await anyio.sleep(_RECONNECT_S)

    async def wait(
        self,
        project: str,
        expected: Mapping[str, Expected],
        activity: Activity,
        *,
        timeout_s: float,
        until: Callable[[], str | None],
        secrets: Iterable[str],
        made: Iterable[Container],
        put_back: PutBack | None,
    ) -> list[Container]:
        """The containers once all is well. ``made`` are those that its start left.

        Raises :class:`NotWellError`, with the last words of the container that is to blame, once
        waiting does not help or ``timeout_s`` are over; :class:`InterferenceError` if somebody
        keeps undoing it (at once without ``put_back``), and :class:`TransientError` if it was
        killed; :class:`HeldError` as soon as ``until`` says why nobody waits any more.
        """
        repairs = _Repairs()
        there, before = made, await self._restarts(project)
        ends_at = time.monotonic() + timeout_s
        while True:
            activity.quiet()
            sights = await self._look(project, before)
            outside = Outside(activity.stopped, {container.id for container in there})
            findings = gate.judge(expected, sights, self._steady_s, outside)
            if not findings:
                return [sight.container for sight in sights]
            left_s = ends_at - time.monotonic()
            undone = [finding for finding in findings if finding.outside]
            if undone:
                pause_s = repairs.due_in_s()
                if put_back is None or pause_s is None or left_s <= 0:
                    raise InterferenceError(_said(undone))
                if pause_s <= 0:
                    there = await put_back(undone)
                    repairs.note()
                    # What crashed because of that is no fault of the release either.
                    before = await self._restarts(project)
                    ends_at = time.monotonic() + timeout_s
                    continue
            elif findings[0].final or left_s <= 0:
                raise await self._verdict(findings, timeout_s, secrets)
            else:
                pause_s = self._pause_s(sights)
            await activity.wait(min(pause_s, left_s, _LOOK_ANYWAY_S))
            if over := until():
                raise HeldError(f"{over}, while {findings[0]}")

    async def explain(
        self,
        project: str,
        expected: Mapping[str, Expected],
        activity: Activity,
        error: CommitdError,
        *,
        secrets: Iterable[str],
        timeout_s: float,
    ) -> CommitdError:
        """What Compose says of a start that failed, in terms of the container that is to blame.

        One that took longer than ``timeout_s`` may be the fault of one that only is not well yet.
        """
        if isinstance(error, HookError):
            return await self._hook_words(project, error, secrets)
        sights = await self._look(project, {})
        findings = gate.judge(expected, sights, 0.0, Outside(activity.stopped))
        if undone := [finding for finding in findings if finding.outside]:
            return InterferenceError(_said(undone))
        if not isinstance(error, StillWaitingError):
            findings = [each for each in findings if each.final]
        return await self._verdict(findings, timeout_s, secrets) if findings else error

    def _pause_s(self, sights: Sequence[Sight]) -> float:
        """Until the next look, if nothing happens."""
        young = [self._steady_s - s.up_s for s in sights if 0 < s.up_s < self._steady_s]
        return min(_LOOK_ANYWAY_S, *young, _LOOK_ANYWAY_S)

    async def _restarts(self, project: str) -> dict[str, int]:
        """How often the engine restarted each container until now."""
        return {s.container.id: s.restarts for s in await self._look(project, {})}

    async def _look(self, project: str, before: Mapping[str, int]) -> list[Sight]:
        mine = [c for c in await self._engine.containers(project) if not c.one_off]
        sights: list[Sight] = []
        for container in mine:
            # By the clock before it is asked: what crashes in between is not older for it.
            asked_at = time.time()
            if raw := await self._engine.inspect(container.id):
                sights.append(_sight(raw, before, asked_at))
        return sights

    async def _verdict(
        self, findings: Sequence[Finding], timeout_s: float, secrets: Iterable[str]
    ) -> CommitdError:
        worst = findings[0]
        message = _said(findings)
        if not worst.final:
            message += f" after {timeout_s:g} s"
        if worst.container is not None:
            message += await self._last_words(worst.container, secrets)
            if worst.trouble is Trouble.EXITED and worst.container.exit_code in _KILLED:
                return TransientError(message)
        return NotWellError(message)

    async def _hook_words(
        self, project: str, error: HookError, secrets: Iterable[str]
    ) -> CommitdError:
        """What Compose says of a hook that failed, with its last words."""
        if error.words:
            return NotWellError(f"{error.message}{_LAST_WORDS}{error.words[-_LOG_CHARS:]}")
        words = ""
        for container in await self._engine.containers(project):
            if container.hook and container.state != "created":
                # The engine tells that it has ended before it has noted that, or the last line.
                with suppress(CommitdError):
                    await self._engine.ended(container.id, _HOOK_ENDS_S)
                words = await self._last_words(container, secrets)
        return NotWellError(f"{error.message}{words}")

    async def _last_words(self, container: Container, secrets: Iterable[str]) -> str:
        """The end of its log, to be put behind a message; empty if there is none."""
        try:
            words = await self._engine.last_words(container.id, _LOG_LINES)
        except CommitdError:
            return ""
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        said = redact.text(" / ".join(lines), secrets)[-_LOG_CHARS:]
        return f"{_LAST_WORDS}{said}" if said else ""


class _Repairs:
    """How often a release was put back, and when it may be again."""

    def __init__(self) -> None:
        self._count = 0
        self._last_at = 0.0

    def due_in_s(self) -> float | None:
        """Seconds until the next time; None: it was put back often enough."""
        if self._count == len(_PUT_BACK_AFTER_S):
            return None
        return self._last_at + _PUT_BACK_AFTER_S[self._count] - time.monotonic()

    def note(self) -> None:
        """It was put back just now."""
        self._count += 1
        self._last_at = time.monotonic()


def _said(findings: Sequence[Finding]) -> str:
    return "; ".join(str(finding) for finding in findings[:3])


def _sight(raw: Mapping[str, Any], before: Mapping[str, int], now: float) -> Sight:
    container = from_inspect(raw)
    up_s = 0.0
    if container.state == "running":
        started = datetime.fromisoformat(raw["State"]["StartedAt"]).timestamp()
        up_s = max(0.001, now - started)
    return Sight(container, max(0, raw["RestartCount"] - before.get(container.id, 0)), up_s)
