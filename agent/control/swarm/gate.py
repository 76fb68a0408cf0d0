"""Waiting until a stack on a Swarm is healthy.

Nobody tells what happens to tasks on other nodes, so they are looked at every second. What happens
to those of this node is heard of at once, by the engine's events::

    look ─▶ all is healthy ───────────────────────────────────────▶ back
      ▲ ├─▶ somebody changed it by hand ──────────────────────────▶ InterferenceError
      │ ├─▶ the files are to blame, for good or for too long ─────▶ UnhealthyError
      │ ├─▶ the nodes lack something, and have for a while ───────▶ UnplacedError
      │ ├─▶ the agent stops, a newer commit, another leader ──────▶ CancelledError
      └─┴─ not healthy yet: wait for an event, or a second

What is healthy: :mod:`agent.domain.swarm.health`. Errors have the code of their reason. They quote
the Swarm, which quotes specs: :func:`agent.adapters.engine.words.concealed` masks secrets in them.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

import anyio
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, logs
from agent.control.health import sightings
from agent.control.health.activity import Listener
from agent.control.health.sightings import Quoting, UnhealthyError
from agent.domain.compose import redact
from agent.domain.errors import CancelledError, CommitdError, InterferenceError, UnplacedError
from agent.domain.swarm import health, patience
from agent.domain.swarm.course import Course, Look
from agent.domain.swarm.finding import Finding
from agent.domain.swarm.model import SwarmService

_LOOK_S = 1.0
_BETWEEN_S = 0.2
"""Many events in a row are one."""
_LONGEST_ERROR = 400


class Awaited(Struct, frozen=True, kw_only=True):
    """A stack that is waited for: its services by their short names, each with its image.

    Its deploy ``began`` then, in seconds since the epoch. ``timeout_s`` is its own word;
    ``cancel_reason`` says why the wait is to end. ``quoting`` is what may be shown of its words.
    """

    stack: str
    images: Mapping[str, str]
    began: float
    timeout_s: float
    cancel_reason: Callable[[], CancelledError | None]
    quoting: Quoting


class Gate:
    """``steady_s`` is for how long all tasks must have run. ``pulse`` is called at each look.

    ``confirm`` raises :class:`CancelledError` when another manager leads by now.
    """

    def __init__(
        self,
        engine: Engine,
        listener: Listener,
        steady_s: float,
        *,
        pulse: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._listener = listener
        self._steady_s = steady_s
        self._pulse = pulse
        self._confirm = confirm

    async def wait(self, awaited: Awaited) -> list[SwarmService]:
        """The services once all is healthy, as they were when that was seen.

        Raises :class:`UnhealthyError` or :class:`UnplacedError` once waiting does not help, with
        the last words of the task that is to blame; :class:`InterferenceError` if somebody undoes
        it, and :class:`CancelledError` as soon as the wait is to end.
        """
        course, began, limit_s = Course(began=awaited.began), time.monotonic(), awaited.timeout_s
        async with self._listener.hear(awaited.stack) as activity:
            while True:
                activity.quiet()
                self._pulse()
                await self._confirm()
                look = await self._look(awaited.stack)
                mine = [each for each in look.services if each.short_name in awaited.images]
                limit_s = max(limit_s, patience.limit_s(mine, len(look.nodes), awaited.timeout_s))
                course, findings = health.judge(course, awaited.images, look, self._steady_s)
                if not findings:
                    return mine
                worst = findings[0]
                if worst.outside:
                    raise InterferenceError(str(worst))
                if not worst.final and look.now - began >= limit_s:
                    worst = patience.overdue(worst, limit_s)
                if worst.final:
                    raise await self._verdict(worst, awaited)
                if reason := awaited.cancel_reason():
                    raise type(reason)(f"{reason}, while {_text(worst, awaited.quoting)}")
                await anyio.sleep(_BETWEEN_S)
                await activity.wait(_LOOK_S)

    async def _look(self, stack: str) -> Look:
        services = await cluster.services(self._engine, stack)
        return Look(
            services=services,
            tasks=await cluster.tasks(self._engine, stack),
            nodes=await cluster.nodes(self._engine),
            now=time.monotonic(),
            wall=time.time(),
        )

    async def _verdict(self, finding: Finding, awaited: Awaited) -> CommitdError:
        """What is wrong for good, with what the task said last."""
        words = ""
        if finding.task and finding.task.container_id:
            said = await logs.last_words(self._engine, finding.task, sightings.LOG_LINES)
            words = sightings.quoted(said, awaited.quoting)
        kind = UnplacedError if finding.passing else UnhealthyError
        error = awaited.quoting.error(kind, _text(finding, awaited.quoting), words)
        error.code = finding.reason or ""
        return error


def _text(finding: Finding, quoting: Quoting) -> str:
    """What is found, not too long; masked before it is cut: half a secret is not known for one."""
    said = redact.text(finding.error, quoting.secrets)[:_LONGEST_ERROR]
    return str(replace(finding, error=said))
