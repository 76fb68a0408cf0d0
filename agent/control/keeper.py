"""Looking after evicted containers that are kept until somebody wants them or their time ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import anyio.to_thread

from agent.adapters.containers import from_inspect
from agent.adapters.engine import Engine
from agent.adapters.evictions import Evicted
from agent.adapters.journal import Journal
from agent.control.evict import Evictor, kept_name
from agent.control.shield import Shield
from agent.domain import ownership
from agent.domain.container import KEPT_PREFIX, Container
from agent.domain.errors import CommitdError

log = logging.getLogger("commitd.keeper")

_PRUNE_EVERY_S = 86400.0


class Keeper:
    """Called once a cycle."""

    def __init__(self, engine: Engine, journal: Journal, shield: Shield, evictor: Evictor) -> None:
        self._engine = engine
        self._journal = journal
        self._shield = shield
        self._evictor = evictor
        self._next_prune = 0.0

    async def tend(self, listed: Iterable[Container]) -> None:
        """Look after each kept container, of which ``listed`` tells how it was a moment ago.

        One that belongs to a stack again gets its name and its restart policy back. An eviction
        that was cut short is brought to its end. One whose time is over is removed, its volumes
        stay.
        """
        now = {container.id: container for container in listed}
        for record in await anyio.to_thread.run_sync(self._journal.kept):
            if self._at_rest(record, now.get(record.id)) or self._evictor.busy(record.id):
                continue
            try:
                await self._look_after(record)
            except CommitdError as err:
                log.warning("%s, which is kept, is looked after later: %s", record.name, err)
        if time.monotonic() > self._next_prune:
            self._next_prune = time.monotonic() + _PRUNE_EVERY_S
            await anyio.to_thread.run_sync(self._journal.prune)

    def _at_rest(self, record: Evicted, container: Container | None) -> bool:
        """Stopped, put aside, and its time is not over: nothing to look at."""
        return (
            container is not None
            and not container.alive
            and container.name.startswith(KEPT_PREFIX)
            and (record.remove_at or 0) > time.time()
        )

    async def _look_after(self, record: Evicted) -> None:
        raw = await self._engine.inspect(record.id)
        if raw is None:
            await anyio.to_thread.run_sync(self._journal.evicted_is_gone, record.id)
            return
        container = from_inspect(raw)
        shield = self._shield.protected
        exemptions = await anyio.to_thread.run_sync(self._shield.exemptions)
        owner = ownership.classify(container, shield, exemptions)
        if isinstance(owner, ownership.Declared):
            await hand_back(self._engine, self._journal, record, container)
            log.info("%s belongs here again: it is as it was", record.name)
        elif isinstance(owner, ownership.Exempt) or container.alive or shield.doubt:
            return  # out of our hands, or about to be evicted again
        elif not container.name.startswith(KEPT_PREFIX):
            await self._engine.rename(record.id, kept_name(record))
        elif (record.remove_at or 0) <= time.time():
            await self._engine.remove(record.id)
            await anyio.to_thread.run_sync(self._journal.evicted_is_gone, record.id)


async def hand_back(
    engine: Engine, journal: Journal, record: Evicted, container: Container
) -> None:
    """Make a kept container what it was, running or not. Raises :class:`CommitdError`."""
    policy = await anyio.to_thread.run_sync(journal.restart_policy, record.id)
    if policy.get("Name") not in {None, "", "no"}:
        await engine.set_restart(record.id, policy)
    if container.name.startswith(KEPT_PREFIX):
        await engine.rename(record.id, record.name)
    await anyio.to_thread.run_sync(journal.evicted_is_gone, record.id)
