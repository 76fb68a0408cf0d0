"""Looking after evicted containers that are kept until somebody wants them or their time ends."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from agent.adapters.engine.containers import from_inspect, volumes_of
from agent.adapters.engine.engine import Engine
from agent.adapters.guard import Guard
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.evictions import Evicted
from agent.control.undeclared.evict import Evictor, kept_name
from agent.control.undeclared.expiry import Expiry
from agent.control.undeclared.protection import Protection
from agent.domain.container import Container
from agent.domain.outcome import Action, EvictionAction, Reason, kept_volumes
from agent.domain.reconcile import ownership

log = logging.getLogger("commitd.keeper")


class Quarantine:
    """Called once a cycle."""

    def __init__(
        self, engine: Engine, journal: AsyncJournal, protection: Protection, evictor: Evictor
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._protection = protection
        self._evictor = evictor
        self._expiry = Expiry(journal, "containers")
        self._guards: dict[str, Guard] = {}

    async def sweep(self, listed: Iterable[Container]) -> None:
        """Look after each kept container, of which ``listed`` tells how it was a moment ago.

        One that belongs to a stack again gets its name and its restart policy back. An eviction
        that was cut short is brought to its end. One whose time is over is removed, its volumes
        stay.
        """
        now = {container.id: container for container in listed}
        self._expiry.look()
        records = await self._journal.kept()
        self._guards = {
            record.id: self._guards.get(record.id) or Guard(f"{record.name}, which is kept", log)
            for record in records
        }
        for record in records:
            if self._at_rest(record, now.get(record.id)) or self._evictor.busy(record.id):
                continue
            try:
                await self._look_after(record)
            except Exception as err:  # noqa: BLE001  it is logged, and the sweep goes on
                self._guards[record.id].note(err, "; checked again later")
            else:
                self._guards[record.id].recovered()
        await self._expiry.prune()

    def _at_rest(self, record: Evicted, container: Container | None) -> bool:
        """Stopped, put aside, and its time is not over: nothing to look at."""
        return (
            container is not None
            and not container.alive
            and (record.action is EvictionAction.STOPPED or container.kept)
            and not self._expiry.over(record)
        )

    async def _look_after(self, record: Evicted) -> None:
        raw = await self._engine.inspect(record.id)
        if raw is None:
            await self._journal.evicted_is_over(record.id)
            return
        container = from_inspect(raw)
        protection = self._protection.protected
        exemptions = await self._protection.exemptions()
        if exemptions.suspension(container.project) or container.id in exemptions.granted:
            return
        owner = ownership.classify(container, protection, exemptions)
        # Its labels alone say that a rival is declared.
        rival = record.reason is Reason.UNKNOWN_CONTAINER
        if isinstance(owner, ownership.Declared) and not rival:
            async with self._ending(record, Reason.DECLARED_AGAIN):
                await restore_kept(self._engine, self._journal, record, container)
        elif container.alive or protection.doubt or record.action is EvictionAction.STOPPED:
            return
        elif not container.kept:
            await self._engine.rename(record.id, kept_name(record))
        elif self._expiry.over(record):
            async with self._ending(record, Reason.KEEP_EXPIRED, volumes_of(raw)):
                await self._engine.remove(record.id)

    @asynccontextmanager
    async def _ending(
        self, record: Evicted, why: Reason, volumes: Iterable[str] = ()
    ) -> AsyncIterator[None]:
        """Record what the body does with it last; ``volumes`` lose their container by that."""
        causes = kept_volumes(volumes)
        async with self._journal.recording(Action.EVICT, record.name, why, causes=causes):
            yield
            await self._journal.evicted_is_over(record.id)


async def restore_kept(
    engine: Engine, journal: AsyncJournal, record: Evicted, container: Container
) -> None:
    """Give an ended container its name and its restart policy back, running or not.

    Raises :class:`CommitdError`.
    """
    if container.kept:
        await engine.rename(record.id, record.name)
    policy = await journal.restart_policy(record.id)
    if policy.get("Name") not in {None, "", "no"}:
        await engine.set_restart(record.id, policy)
