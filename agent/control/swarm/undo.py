"""Bringing back a service that was evicted, as it was; also one that another manager has ended."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import anyio.to_thread

from agent.adapters.engine import words
from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import open_journal
from agent.adapters.swarm import cluster, services
from agent.control.undeclared.undo import Restored
from agent.domain.config import Config
from agent.domain.errors import PermanentError, did_you_mean
from agent.domain.outcome import Action, Cause, CauseKind, Reason
from agent.domain.swarm import eviction
from agent.domain.swarm.model import SwarmService

_SHORTEST_ID = 4
_TRIES = 5
"""While others change the same service just then."""


async def undo(config: Config, word: str, for_s: float, *, actor: str) -> Restored:
    """Bring back the kept service of that name, or whose ID begins so.

    ``actor`` orders it. It is exempt for ``for_s`` seconds; that is written first, so that its
    update does not get it evicted. Raises :class:`CommitdError` when no such service is kept.
    """
    async with Engine(directories.docker_host(config)) as engine:
        file = await anyio.to_thread.run_sync(partial(open_journal, config, read_only=False))
        with words.concealed(None):  # what it was given, nobody declared
            return await _undo(engine, AsyncJournal(file), word, for_s, actor=actor)


async def _undo(
    engine: Engine, journal: AsyncJournal, word: str, for_s: float, *, actor: str
) -> Restored:
    listed = await cluster.services(engine)
    service = _find(listed, word)
    eviction.refuse_taken_ports(service, listed)  # and what could not be restored at all
    until = journal.now() + for_s
    cause = Cause(kind=CauseKind.SERVICE, name=service.name, before="kept", after="running")
    await journal.exempt(service.id, until)
    async with journal.recording(
        Action.RESTART, service.name, Reason.UNDONE, causes=[cause], actor=actor
    ):
        await _restore(engine, service)
        await journal.evicted_is_over(service.id)
    return Restored(service.name, journal.shown(until))


async def _restore(engine: Engine, service: SwarmService) -> None:
    found: SwarmService | None = service
    for left in reversed(range(_TRIES)):
        if found is None:
            raise PermanentError(f"{service.name} was removed meanwhile")
        if not found.kept:
            return  # a deploy or another person was faster
        try:
            await services.update(engine, found, eviction.restored(found))
        except services.ChangedMeanwhileError:
            if not left:
                raise
        else:
            return
        found = await services.inspect(engine, service.id)


def _find(listed: Iterable[SwarmService], word: str) -> SwarmService:
    kept = [service for service in listed if service.kept]
    found = [service for service in kept if word == service.name]
    if not found and len(word) >= _SHORTEST_ID:
        found = [service for service in kept if service.id.startswith(word)]
    if not found:
        raise PermanentError(
            f"no evicted service {word!r} is kept",
            hint=did_you_mean(word, {each.name for each in kept}, "commitd status lists them"),
        )
    if len(found) > 1:
        ids = ", ".join(f"{each.id} ({each.name})" for each in found)
        message = f"{word!r} names {len(found)} kept services"
        raise PermanentError(message, hint=f"say which: {ids}")
    return found[0]
