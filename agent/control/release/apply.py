"""Starting one release, and waiting until all of it is healthy or done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import anyio
import anyio.to_thread

from agent.adapters.compose.errors import HookError
from agent.control.health import sightings
from agent.control.health.activity import Activity
from agent.control.health.awaited import Awaited, Standing, Steps
from agent.control.health.health_gate import Gate
from agent.control.release.deployment import cancel_reason
from agent.control.release.starting import Batch, Before, Starting, StartTools
from agent.control.stack.ready import Ready, observed, quoting
from agent.domain.container import Container
from agent.domain.errors import CancelledError
from agent.domain.outcome import Phase
from agent.domain.release.release import Service

_MOST_WAITING = 16
"""Stacks whose services wait for each other, at a time: each has a Compose that waits with them."""


class Applier:
    """``heads`` are the commits that remotes show; a new one ends the wait for health."""

    def __init__(self, tools: StartTools, gate: Gate, heads: Callable[[], frozenset[str]]) -> None:
        self._tools = tools
        self._gate = gate
        self._waiting = anyio.CapacityLimiter(_MOST_WAITING)
        self.heads = heads
        self.stopping = tools.stopping

    async def run(
        self,
        ready: Ready,
        before: Before,
        batch: Batch,
        *,
        doubt: bool,
        phase: Callable[[Phase], AbstractContextManager[None]],
    ) -> tuple[Service, ...]:
        """The services as they stand once they are healthy. ``phase`` measures parts of it.

        Services that left the stack are ended then, but not in ``doubt`` about what is declared.
        Raises :class:`CommitdError`, of which :class:`StartError` when it did not start at all.
        """
        place = self._waiting if ready.waits else nullcontext()
        async with place, self._gate.listening(ready.stack.name) as activity:
            starting = Starting(
                self._tools,
                ready,
                before,
                batch,
                doubt=doubt,
                activity=activity,
                healthy=partial(self._healthy, batch, activity),
            )
            try:
                with phase(Phase.CREATE):
                    await starting.make()
            except HookError as err:
                engine, name = self._gate.engine, ready.stack.name
                raise await sightings.hook_failed(engine, name, err, quoting(ready)) from None
            with phase(Phase.GATE):
                containers = await self._until_healthy(ready, batch, activity, starting)
        remover = self._tools.remover
        await remover.prune_services(ready, before.left, batch.revision, doubt=doubt)
        await self._tools.making.ledger.forget_left(ready.stack.name, ready.services)
        return observed(ready, containers, before.release)

    async def adopt_release(self, ready: Ready, there: Ready, batch: Batch) -> tuple[Service, ...]:
        """The same for a stack that is up already: nothing is started, all of it is looked at.

        ``there`` is the stack as its containers call its images. If somebody undoes it meanwhile
        it is no stack to be taken over any more, but one to be brought up.
        """
        name, digest = ready.stack.name, ready.stack.digest
        await self._tools.journal.keep_started(name, digest)
        async with self._gate.listening(name) as activity:
            standing = Standing(await self._tools.stacks.containers(name))
            containers = await self._until_healthy(there, batch, activity, standing)
            await self._tools.making.ledger.adopt(name, containers)
            return observed(ready, containers, None)

    async def _healthy(self, batch: Batch, activity: Activity, ready: Ready, service: str) -> None:
        standing = Standing(await self._tools.stacks.containers(ready.stack.name))
        await self._until_healthy(ready, batch, activity, standing, only=service)

    async def _until_healthy(
        self,
        ready: Ready,
        batch: Batch,
        activity: Activity,
        steps: Steps,
        *,
        only: str | None = None,
    ) -> list[Container]:
        """The containers once all services are healthy or done, or ``only`` the one."""
        settings = ready.stack.settings
        awaited = Awaited(
            project=ready.stack.name,
            services={only: ready.services[only]} if only else ready.services,
            timeout_s=settings.health_timeout,
            cancel_reason=partial(self.cancel_reason, batch),
            quoting=quoting(ready),
            after=settings.after,
        )
        return await self._gate.wait(awaited, activity, steps)

    def cancel_reason(self, batch: Batch) -> CancelledError | None:
        """Why the wait for images and for health is to end, or None."""
        return cancel_reason(batch, self.heads(), stopping=self.stopping())
