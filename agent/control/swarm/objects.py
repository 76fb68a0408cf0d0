"""Configs and secrets of a Swarm's stacks: gone once nothing needs them.

    deploy: provide ─▶ docker stack deploy ─▶ gate ─▶ prune      a stack that left: prune

What goes is what the agent has made itself, by its label; the Swarm refuses to remove what a
service uses by then. A removal that fails is tried again after the stack's next deploy.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, objects
from agent.domain.errors import CommitdError
from agent.domain.swarm.unused import unused

log = logging.getLogger("commitd.swarm")


async def prune(engine: Engine, stack: str, kept: Collection[str]) -> tuple[str, ...]:
    """Remove those of ``stack`` that nothing needs; the names of what is gone.

    ``kept`` are the names that releases of it have, which may come back. Never raises
    :class:`CommitdError`: what stays does no harm.
    """
    gone: list[str] = []
    try:
        # Services after objects: what was made meanwhile is not among them.
        found = await objects.ours(engine, stack)
        services = await cluster.services(engine) if found else ()
        for each in unused(found, services, kept):
            if await objects.remove(engine, each):
                gone += [each.name]
    except CommitdError as err:
        log.warning("%s: %s; tried again after its next deploy", stack, err)
    if gone:
        log.info("%s: removed %s, which nothing uses any more", stack, ", ".join(gone))
    return tuple(gone)
