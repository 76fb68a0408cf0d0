"""Saying what of a stack's files has no effect, before the stack is deployed."""

from __future__ import annotations

import logging
from contextlib import suppress

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.domain.errors import CommitdError
from agent.domain.repository import ignored
from agent.domain.repository.desired import Stack

log = logging.getLogger("commitd.stacks")


async def tell(stack: Stack, journal: AsyncJournal, engine: Engine) -> None:
    """Log it; of a stack that is new here also whose data it leaves where it is."""
    for note in stack.notes:
        log.warning("%s: %s", stack.name, note)
    if not stack.called or stack.name in await journal.releases():
        return
    if said := await left_behind(stack, engine):
        log.warning("%s: %s", stack.name, said)


async def left_behind(stack: Stack, engine: Engine) -> str | None:
    """As :func:`ignored.left_behind`; None also when the engine does not tell."""
    if not stack.called:
        return None
    with suppress(CommitdError):
        return ignored.left_behind(stack, await engine.volumes(stack.called))
    return None
