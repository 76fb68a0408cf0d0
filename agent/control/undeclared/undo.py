"""Bringing back a container that was evicted, as it was."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
from msgspec import Struct

from agent.adapters.engine import words
from agent.adapters.engine.containers import from_inspect
from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import open_journal
from agent.control.undeclared.quarantine import restore_kept
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import PermanentError, did_you_mean
from agent.domain.outcome import Action, Cause, CauseKind, EvictionAction, Reason

_SLACK_S = 5.0


class Restored(Struct, frozen=True):
    """A container that runs again, and until when it is left alone (epoch seconds)."""

    name: str
    until: float


async def undo(config: Config, word: str, for_s: float, *, actor: str) -> Restored:
    """Bring back the container whose ID begins with ``word``, or that was called so.

    ``actor`` orders it. For ``for_s`` seconds it is exempt; that is written first, so that its
    start is no rogue's. An eviction of it that goes on is waited for. Raises :class:`CommitdError`
    when there is no such container any more or it cannot start.
    """
    patience_s = config.undeclared.stop_timeout + _SLACK_S
    async with Engine(directories.docker_host(config)) as engine:
        file = await anyio.to_thread.run_sync(partial(open_journal, config, read_only=False))
        return await _undo(
            engine, AsyncJournal(file), word, for_s, patience_s=patience_s, actor=actor
        )


async def _undo(
    engine: Engine,
    journal: AsyncJournal,
    word: str,
    for_s: float,
    *,
    patience_s: float,
    actor: str,
) -> Restored:
    record, container = await _find(engine, journal, word)
    until = journal.now() + for_s
    cause = Cause(
        kind=CauseKind.CONTAINER, name=record.id[:12], before=record.action, after="running"
    )

    await journal.exempt(record.id, until)
    async with journal.recording(
        Action.RESTART, record.name, Reason.UNDONE, causes=[cause], actor=actor
    ):
        if await _going_on(journal, record):
            container = await _ended(engine, record, container, patience_s)
        await restore_kept(engine, journal, record, container)
        with words.concealed(None):  # what it was given, nobody declared
            await engine.start(record.id)
        await journal.evicted_is_over(record.id)
    return Restored(record.name, journal.shown(until))


async def _find(engine: Engine, journal: AsyncJournal, word: str) -> tuple[Evicted, Container]:
    """The newest eviction that ``word`` names and whose container is still there."""
    records = await journal.find_evicted(word) if word else []
    if not records:
        kept = await journal.kept()
        names = {record.name for record in kept}
        raise PermanentError(
            f"no evicted container {word!r} is known",
            hint=did_you_mean(word, names, "commitd status lists them"),
        )
    found = [
        (record, from_inspect(raw))
        for record in records
        if (raw := await engine.inspect(record.id))
    ]
    if not found:
        raise PermanentError(
            f"{records[0].name} ({records[0].image}) is not kept any more",
            hint="its keep time is over, or it ran with --rm; its volumes are still there",
        )
    if len(found) > 1:
        ids = ", ".join(f"{record.id[:12]} of {record.at}" for record, _ in found)
        message = f"{word!r} names {len(found)} kept containers"
        raise PermanentError(message, hint=f"say which: {ids}")
    return found[0]


async def _going_on(journal: AsyncJournal, record: Evicted) -> bool:
    entries = await journal.history(subject=record.name)
    return any(entry.action is Action.EVICT and entry.status == "running" for entry in entries)


async def _ended(
    engine: Engine, record: Evicted, container: Container, patience_s: float
) -> Container:
    """The container once its eviction, which may still go on, is through.

    One that is still running after the longest time an eviction takes, somebody has started.
    """
    with anyio.move_on_after(patience_s):
        while container.alive or (record.action is EvictionAction.REMOVED and not container.kept):
            await anyio.sleep(0.2)
            if raw := await engine.inspect(record.id):
                container = from_inspect(raw)
    return container
