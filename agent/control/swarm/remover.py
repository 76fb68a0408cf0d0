"""Removing services of a Swarm that are declared no more, and whole stacks. Volumes stay."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.swarm import cluster, services
from agent.control.stack.stepping import Stepping
from agent.domain.errors import TransientError
from agent.domain.outcome import Action, Reason
from agent.domain.revision import Revision
from agent.domain.swarm.model import OURS, SwarmService


class SwarmRemover(Stepping):
    """One try at a time, without retry.

    ``confirm`` raises :class:`CancelledError` when another manager leads by now.
    """

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        pulse: Callable[[], None],
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(pulse)
        self._confirm = confirm
        self._engine = engine
        self._journal = journal

    async def volumes(self, project: str) -> list[str]:
        """Those of nodes are not known to the Swarm, and are not touched."""
        del project
        return []

    async def take_down(self, project: str, revision: Revision) -> None:
        """Remove the services of a stack that the agent has made; its volumes stay.

        What merely claims to be of it is left to be judged for itself. Raises
        :class:`CommitdError`.
        """
        del revision
        release = (await self._journal.releases()).get(project)
        known = {service.name for service in release.services} if release else set()
        for service in await self._own(project, known):
            await self._confirm()
            await self._step(services.remove(self._engine, service))
        if left := await self._own(project, known):
            names = ", ".join(service.name for service in left)
            raise TransientError(f"still there after it was taken down: {names}")

    async def drop_left(
        self, stack: str, declared: Collection[str], before: Collection[str], revision: Revision
    ) -> None:
        """Remove its services that are not ``declared``, now that the new release is healthy.

        Only those that the agent has made: of the release ``before``, or labelled so. Raises
        :class:`CommitdError`.
        """
        for service in await self._own(stack, before):
            if service.short_name not in declared:
                await self._confirm()
                async with self._journal.recording(
                    Action.EVICT, service.name, Reason.SERVICE_LEFT, revision=revision.sha
                ):
                    await self._step(services.remove(self._engine, service))

    async def _own(self, stack: str, known: Collection[str]) -> list[SwarmService]:
        return [
            service
            for service in await cluster.services(self._engine, stack)
            if service.stack == stack
            and not service.kept
            and (service.short_name in known or service.labels.get(OURS) == stack)
        ]
