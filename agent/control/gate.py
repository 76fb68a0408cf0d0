"""Waiting until a release is up and well, by the engine's events."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio

from agent.adapters.compose import StillWaitingError
from agent.adapters.containers import from_inspect
from agent.adapters.engine import Engine
from agent.domain import gate, redact
from agent.domain.container import Container
from agent.domain.errors import CommitdError, HeldError, PermanentError, TransientError
from agent.domain.gate import Expected, Finding, Sight, Trouble

log = logging.getLogger("commitd.gate")

_LOOK_ANYWAY_S = 2.0
"""Without any event: a newer commit is no event of the engine."""
_KILLED = {137, 143}
"""Ended from outside, perhaps with the engine: no fault of the release, unless it happens again."""
_LOG_LINES, _LOG_CHARS = 5, 400


class NotWellError(PermanentError):
    """A release that came up is not well; the same input would do the same again."""


class Gate:
    """``steady_s`` is for how long a container without a health check must have run."""

    def __init__(self, engine: Engine, steady_s: float) -> None:
        self._engine = engine
        self._steady_s = steady_s

    async def wait(
        self,
        project: str,
        expected: Mapping[str, Expected],
        *,
        timeout_s: float,
        until: Callable[[], str | None],
        secrets: Iterable[str],
    ) -> list[Container]:
        """The containers once all is well.

        Raises :class:`NotWellError`, with the last words of the container that is to blame, once
        waiting does not help or ``timeout_s`` are over, but :class:`TransientError` if somebody
        killed it; :class:`HeldError` as soon as ``until`` says why nobody waits any more.
        """
        changed = anyio.Event()
        findings: list[Finding] = []
        sights: list[Sight] = []

        def note(_: object) -> None:
            changed.set()

        over: str | None = None
        looked = False
        before = {s.container.id: s.restarts for s in await self._look(project, {})}
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, project, note)
                with anyio.move_on_after(timeout_s):
                    while over is None:
                        changed = anyio.Event()
                        sights = await self._look(project, before)
                        findings = gate.judge(expected, sights, self._steady_s)
                        looked = True
                        if not findings or findings[0].final:
                            break
                        with anyio.move_on_after(self._pause_s(sights)):
                            await changed.wait()
                        over = until()
                group.cancel_scope.cancel()
        except* CommitdError as errors:
            raise errors.exceptions[0] from None
        if over:
            raise HeldError(f"{over}, while {findings[0]}")
        if not looked:
            raise TransientError("the engine did not show it in time")
        if findings:
            raise await self._verdict(findings, timeout_s, secrets)
        return [sight.container for sight in sights]

    async def explain(
        self,
        project: str,
        expected: Mapping[str, Expected],
        error: CommitdError,
        secrets: Iterable[str],
        timeout_s: float,
    ) -> CommitdError:
        """What Compose says of a start that failed, in terms of the container that is to blame.

        One that took longer than ``timeout_s`` may be the fault of one that only is not well yet.
        """
        findings = gate.judge(expected, await self._look(project, {}), 0.0)
        if not isinstance(error, StillWaitingError):
            findings = [each for each in findings if each.final]
        return await self._verdict(findings, timeout_s, secrets) if findings else error

    def _pause_s(self, sights: Sequence[Sight]) -> float:
        """Until the next look, if nothing happens."""
        young = [self._steady_s - s.up_s for s in sights if 0 < s.up_s < self._steady_s]
        return min(_LOOK_ANYWAY_S, *young, _LOOK_ANYWAY_S)

    async def _listen(self, project: str, note: Callable[[object], None]) -> None:
        """Without the stream it takes a little longer."""
        try:
            await self._engine.watch(note, lambda: None, project)
        except CommitdError as err:
            log.debug("%s: %s", project, err)

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
        message = "; ".join(str(finding) for finding in findings[:3])
        if not worst.final:
            message += f" after {timeout_s:g} s"
        if worst.container is not None:
            try:
                words = await self._engine.last_words(worst.container.id, _LOG_LINES)
            except CommitdError:
                words = ""
            if lines := [line.strip() for line in words.splitlines() if line.strip()]:
                said = redact.text(" / ".join(lines), secrets)[-_LOG_CHARS:]
                message += f"; its last words: {said}"
            if worst.trouble is Trouble.EXITED and worst.container.exit_code in _KILLED:
                return TransientError(message)
        return NotWellError(message)


def _sight(raw: Mapping[str, Any], before: Mapping[str, int], now: float) -> Sight:
    container = from_inspect(raw)
    up_s = 0.0
    if container.state == "running":
        started = datetime.fromisoformat(raw["State"]["StartedAt"]).timestamp()
        up_s = max(0.001, now - started)
    return Sight(container, max(0, raw["RestartCount"] - before.get(container.id, 0)), up_s)
