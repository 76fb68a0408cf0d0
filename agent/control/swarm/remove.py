"""Removing from a Swarm what is declared no more: services of a stack, and whole stacks.

services ─▶ their tasks have ended ─▶ its networks that nobody uses ─▶ its configs and secrets

Volumes and nodes stay, and what others use.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection

import anyio

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.swarm import cluster, networks, services
from agent.control.stack.ready import Ready
from agent.control.stack.stepping import Stepping
from agent.control.swarm import objects
from agent.control.undeclared.protection import Protection
from agent.domain.errors import TransientError
from agent.domain.outcome import Action, EvictionAction, Reason, kept_volumes
from agent.domain.reconcile import ownership
from agent.domain.resources import exclusive
from agent.domain.revision import Revision
from agent.domain.swarm import eviction, leaving
from agent.domain.swarm.claims import claimed
from agent.domain.swarm.model import STACK, SwarmService

log = logging.getLogger("commitd.stacks")

_LOOK_EVERY_S = 0.25
_SLACK_S = 30.0
_LONGEST_STOP_S = 3600.0


class ServiceRemover(Stepping):
    """One try at a time, without retry.

    ``confirm`` raises :class:`CancelledError` when another manager leads by now.
    """

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        pulse: Callable[[], None],
        protection: Protection,
        *,
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(pulse)
        self._engine = engine
        self._journal = journal
        self._protection = protection
        self._confirm = confirm
        self.users_gone = True
        """Whether a service that was the last to use something of a stack which left may be gone.

        The agent does not know at first what happened before.
        """

    async def volumes(self, project: str) -> list[str]:
        """All volumes that services of the stack mount."""
        listed = await cluster.services(self._engine, project)
        return sorted({volume for service in listed for volume in service.volumes})

    async def make_room(
        self, ready: Ready, left: Collection[str], revision: Revision, *, doubt: bool
    ) -> None:
        """Remove the services that ``left`` the stack and publish a port that it wants now.

        The Swarm starts what is new before anybody ends what left; a port is free once the tasks
        have ended. So goes an evicted service that is not of the stack and has the name of one that
        it wants. In ``doubt`` about what is declared, none goes. Raises :class:`CommitdError`.
        """
        if not doubt:
            await self._free_names(ready, revision)
        wants = frozenset().union(*(service.wants for service in ready.services.values()))
        longest_s: float | None = None
        for service in await self._gone(ready, left, doubt=doubt) if wants else ():
            if found := exclusive.in_the_way(leaving.ports(service), wants):
                await self._drop_alone(service, revision, Reason.IN_THE_WAY, ", ".join(found))
                longest_s = max(longest_s or 0.0, service.stop_s)
        if longest_s is not None:
            await self._ended(ready.stack.name, longest_s)

    async def _free_names(self, ready: Ready, revision: Revision) -> None:
        names = {f"{ready.stack.name}_{short}" for short in ready.services}
        for service in await cluster.services(self._engine):
            if service.name in names and await self._may_give_way(service, ready.stack.name):
                what = f"name {service.name}"
                await self._drop_alone(service, revision, Reason.IN_THE_WAY, what)
                await self._journal.evicted_is_over(service.id)
                self.users_gone = True

    async def _may_give_way(self, service: SwarmService, stack: str) -> bool:
        """Whether it was evicted, runs nothing, and would be removed anyway once its time is over.

        A service of the ``stack`` itself need not go: a deploy changes it.
        """
        protected = self._protection.protected
        if service.stack == stack or not eviction.at_rest(service):
            return False
        label = eviction.read(service)
        if protected.doubt or not protected.enrolled:
            return False
        if label and label.action is EvictionAction.STOPPED:
            return False
        owner = ownership.classify(claimed(service), protected, await self._protection.exemptions())
        return isinstance(owner, ownership.Undeclared)

    async def prune_services(
        self, ready: Ready, left: Collection[str], revision: Revision, *, doubt: bool
    ) -> None:
        """Remove the services that ``left`` the stack, now that the new release is healthy.

        In ``doubt`` about what is declared, none. Volumes stay. Raises :class:`CommitdError`.
        """
        for service in await self._gone(ready, left, doubt=doubt):
            await self._drop_alone(service, revision, Reason.SERVICE_LEFT)

    async def _gone(
        self, ready: Ready, left: Collection[str], *, doubt: bool
    ) -> list[SwarmService]:
        if doubt:
            return []
        listed = await cluster.services(self._engine, ready.stack.name)
        granted = await self._journal.granted(self._journal.now())
        stays = ready.services.keys()
        return leaving.of_services(listed, ready.stack, left, stays, granted)

    async def take_down(self, project: str, revision: Revision) -> None:
        """Take a stack down, and look whether its tasks have ended; its volumes stay.

        Services that merely claim to be of the stack are left to be judged for themselves, and with
        them the networks that they use. Raises :class:`CommitdError`.
        """
        release = (await self._journal.releases()).get(project)
        granted = await self._journal.granted(self._journal.now())
        names = {service.name for service in release.services} if release else set()
        listed = await cluster.services(self._engine, project)
        mine = leaving.of_stack(listed, project, names, granted)
        if others := [each.name for each in listed if each not in mine]:
            log.warning("%s: not of the stack, and left: %s", project, ", ".join(others))
        for service in mine:
            if others:  # what went and what did not is to be told
                await self._drop_alone(service, revision, Reason.LEFT)
            else:
                await self._drop(service)
        await self._ended(project, max((each.stop_s for each in mine), default=0.0))
        await self.clear_networks(project)
        await self._confirm()
        await self._step(objects.clear(self._engine, project))

    async def _drop_alone(
        self, service: SwarmService, revision: Revision, why: Reason, detail: str | None = None
    ) -> None:
        kept = kept_volumes(service.volumes)
        async with self._journal.recording(
            Action.EVICT, service.name, why, detail=detail, causes=kept, revision=revision.sha
        ):
            await self._drop(service)

    async def _drop(self, service: SwarmService) -> None:
        await self._confirm()
        await self._step(services.remove(self._engine, service))

    async def _ended(self, stack: str, longest_s: float) -> None:
        """Wait until no task of its services that are gone runs, for as long as to kill one takes.

        Also of those that a try before has removed.
        """
        # An engine waits once for the signal, and as long for the kill.
        limit_s = 2 * min(longest_s, _LONGEST_STOP_S) + _SLACK_S
        ends_at = anyio.current_time() + limit_s
        while nodes := await self._step(self._where_up(stack)):
            if anyio.current_time() > ends_at:
                raise TransientError(f"its tasks have not ended yet on {', '.join(nodes)}")
            await anyio.sleep(_LOOK_EVERY_S)

    async def _where_up(self, stack: str) -> list[str]:
        """The names of the nodes on which such tasks run yet."""
        tasks = await cluster.tasks(self._engine, stack)
        if all(task.over for task in tasks):
            return []
        listed = await cluster.services(self._engine, stack)
        nodes = await cluster.nodes(self._engine)
        up = {task.node_id for task in leaving.still_up(tasks, listed, nodes)}
        return sorted({node.hostname for node in nodes if node.id in up})

    async def runs(self, service: SwarmService) -> bool:
        """Whether a task of it has yet to end, where that can be known."""
        tasks = await cluster.tasks(self._engine, service.labels.get(STACK))
        its = [task for task in tasks if task.service_id == service.id]
        return bool(leaving.still_up(its, (), await cluster.nodes(self._engine)))

    async def clear_networks(self, stack: str) -> None:
        """Remove the networks of the stack that nobody uses. Raises :class:`CommitdError`."""
        found = await networks.of_stack(self._engine, stack)
        if not found:
            return
        listed, tasks = await cluster.services(self._engine), await cluster.tasks(self._engine)
        for network in leaving.unused(found.keys(), listed, tasks):
            await self._confirm()
            if await self._step(networks.remove(self._engine, network)):
                log.info("%s: removed the network %s", stack, found[network])
            else:
                log.info("%s: %s is in use, and stays", stack, found[network])

    async def clear_objects(self, declared: Collection[str]) -> None:
        """Remove the configs and secrets that stacks have left behind which are not ``declared``.

        Only after users of them are gone. Raises :class:`CommitdError`.
        """
        if not self.users_gone:
            return
        stays = {*declared, *await self._journal.releases()}
        await self._confirm()
        await self._step(objects.clear_all(self._engine, stays))
        self.users_gone = False
