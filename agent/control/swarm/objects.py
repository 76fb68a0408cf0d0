"""Configs and secrets of a Swarm's stacks: gone once nothing needs them.

    deploy: provide ─▶ docker stack deploy ─▶ gate ─▶ prune
    a stack that left: clear     an evicted service that used one of such a stack is gone: clear_all

What goes is what the agent has made itself, by its label; the Swarm refuses to remove what a
service uses by then.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, objects
from agent.domain.errors import CommitdError
from agent.domain.swarm.model import SwarmObject
from agent.domain.swarm.unused import unused

log = logging.getLogger("commitd.swarm")


async def prune(engine: Engine, stack: str, kept: Collection[str]) -> tuple[str, ...]:
    """Remove those of ``stack`` that nothing needs; the names of what is gone.

    ``kept`` are the names that releases of it have, which may come back. Never raises
    :class:`CommitdError`: what stays does no harm until the stack's next deploy.
    """
    try:
        return await clear(engine, stack, kept)
    except CommitdError as err:
        log.warning("%s: %s; tried again after its next deploy", stack, err)
        return ()


async def clear(engine: Engine, stack: str, kept: Collection[str] = ()) -> tuple[str, ...]:
    """As :func:`prune`, of a stack that may have no next deploy: raises :class:`CommitdError`."""
    return await _remove(engine, await objects.ours(engine, stack), kept)


async def clear_all(engine: Engine, stays: Collection[str]) -> tuple[str, ...]:
    """Remove those of all stacks but the ones in ``stays``; raises :class:`CommitdError`."""
    found = await objects.ours(engine)
    return await _remove(engine, [each for each in found if each.stack not in stays], ())


async def _remove(
    engine: Engine, found: Collection[SwarmObject], kept: Collection[str]
) -> tuple[str, ...]:
    # Services after objects: what was made meanwhile is not among them.
    services = await cluster.services(engine) if found else ()
    gone: list[str] = []
    try:
        for each in unused(found, services, kept):
            if await objects.remove(engine, each):
                gone += [each.name]
    finally:
        if gone:
            log.info("removed %s, which nothing uses any more", ", ".join(gone))
    return tuple(gone)
