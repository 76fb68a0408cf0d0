"""Looking after evicted services, which are kept until somebody wants them or their time ends.

What is kept, the Swarm itself knows, by a label on each; the journal follows. A manager that leads
from now on learns what another one has ended, and keeps it for the whole time once more: how long
ago that was, only the clock of another machine says.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import msgspec

from agent.adapters.engine.engine import Engine
from agent.adapters.guard import Guard
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.evictions import Evicted
from agent.adapters.swarm import cluster, services
from agent.control.swarm.evict import ServiceEvictor
from agent.control.swarm.remove import ServiceRemover
from agent.control.undeclared.expiry import Expiry
from agent.control.undeclared.protection import Protection
from agent.domain.config import UndeclaredRules
from agent.domain.container import Container
from agent.domain.errors import CancelledError, CommitdError
from agent.domain.outcome import Action, EvictionAction, Reason, kept_volumes
from agent.domain.reconcile import ownership
from agent.domain.swarm import eviction
from agent.domain.swarm.claims import claimed
from agent.domain.swarm.model import SwarmService

log = logging.getLogger("commitd.keeper")


class ServiceQuarantine:
    """Called once a cycle, by the manager that leads.

    ``confirm`` raises :class:`CancelledError` when another one leads by now.
    """

    def __init__(
        self,
        engine: Engine,
        journal: AsyncJournal,
        policy: UndeclaredRules,
        evictor: ServiceEvictor,
        remover: ServiceRemover,
        *,
        protection: Protection,
        confirm: Callable[[], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._policy = policy
        self._protection = protection
        self._evictor = evictor
        self._remover = remover
        self._confirm = confirm
        self._expiry = Expiry(journal, "services")
        self._guards: dict[str, Guard] = {}
        self._clearing = Guard("removing what stacks that left have left behind", log)

    async def sweep(self, listed: Iterable[Container]) -> None:
        """Look after each kept service; while none is kept, the Swarm is asked once at most.

        One that is declared again was overwritten by its deploy, and one that a person brought back
        runs: both are kept no more. One whose time is over is removed, its volumes stay.
        """
        self._expiry.look()
        records = {record.id: record for record in await self._journal.kept()}
        busy = {each for each in records if self._evictor.busy(each)}
        if records or any(container.kept for container in listed):
            there = {each.id: each for each in await cluster.services(self._engine)}
            kept = {each.id for each in there.values() if each.kept}
            await self._look_at(sorted((records.keys() | kept) - busy), records, there)
        await self._clear()
        await self._expiry.prune()

    async def _clear(self) -> None:
        """Configs and secrets of stacks that left, which a kept service was the last to use."""
        protected = self._protection.protected
        try:
            if protected.enrolled and not protected.doubt:
                await self._remover.clear_objects(protected.services)
        except CancelledError:
            return  # another manager leads
        except CommitdError as err:
            self._clearing.note(err, "; tried again later")
        else:
            self._clearing.recovered()

    async def _look_at(
        self,
        ids: Iterable[str],
        records: Mapping[str, Evicted],
        there: Mapping[str, SwarmService],
    ) -> None:
        before, self._guards = self._guards, {}
        for each in ids:
            guard = before.get(each) or Guard(f"the service {each}, which is kept", log)
            self._guards[each] = guard
            try:
                await self._look_after(records.get(each), there.get(each))
            except CancelledError:
                return  # another manager leads
            except Exception as err:  # noqa: BLE001  it is logged, and the sweep goes on
                guard.note(err, "; checked again later")
            else:
                guard.recovered()

    async def _look_after(self, record: Evicted | None, service: SwarmService | None) -> None:
        if service is None or not service.kept:
            if record:
                await self._end_of(record, service)
            return
        label = eviction.read(service)
        if record is None or (label and label.at != record.at):
            await self._learn(service, label)
        elif self._expiry.over(record) and eviction.at_rest(service):
            await self._remove(service, record)

    async def _end_of(self, record: Evicted, service: SwarmService | None) -> None:
        """It is not kept any more: gone, or running again, by a deploy or by a person."""
        self._remover.users_gone |= service is None
        owner = service and await self._owner(service)
        if not isinstance(owner, ownership.Declared):
            await self._journal.evicted_is_over(record.id)
            return
        async with self._journal.recording(Action.EVICT, record.name, Reason.DECLARED_AGAIN):
            await self._journal.evicted_is_over(record.id)

    async def _learn(self, service: SwarmService, label: eviction.Before | None) -> None:
        """Another manager has ended it."""
        action = label.action if label else EvictionAction.REMOVED
        stays = action is EvictionAction.STOPPED
        record = Evicted(
            id=service.id,
            name=service.name,
            image=service.image,
            action=EvictionAction.STOPPED if stays else EvictionAction.REMOVED,
            reason=label.reason if label else Reason.OTHER,
            at=label.at if label else utcnow(),
            remove_at=None if stays else self._journal.now() + self._policy.keep,
        )
        await self._journal.learn_evicted(record, msgspec.to_builtins(label) if label else {})
        says = f"was ended at {label.at}" if label else "was ended"
        log.info("%s is kept: its label says that it %s", record.name, says)

    async def _remove(self, kept: SwarmService, record: Evicted) -> None:
        """Unless a task of it has yet to end, or it is somebody's after all, by a fresh look."""
        protected = self._protection.protected
        if protected.doubt or not protected.enrolled:
            return
        if await self._remover.runs(kept):  # and would keep its networks from going with it
            return
        await self._confirm()
        service = await services.inspect(self._engine, kept.id)
        if service is None or not eviction.at_rest(service):
            return
        if not isinstance(await self._owner(service), ownership.Undeclared):
            return
        volumes = kept_volumes(service.volumes)
        async with self._journal.recording(
            Action.EVICT, record.name, Reason.KEEP_EXPIRED, causes=volumes
        ):
            await services.remove(self._engine, service)
            await self._journal.evicted_is_over(record.id)
        self._remover.users_gone = True
        if service.stack and service.stack not in protected.services:
            await self._remover.clear_networks(service.stack)

    async def _owner(self, service: SwarmService) -> ownership.Ownership:
        exemptions = await self._protection.exemptions()
        return ownership.classify(claimed(service), self._protection.protected, exemptions)
