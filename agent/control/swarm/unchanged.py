"""Refusing a stack of which a Swarm would not change what is declared another way now."""

from __future__ import annotations

import anyio.to_thread

from agent.adapters.engine import resources, words
from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, networks
from agent.control.stack.ready import Ready
from agent.domain.errors import PermanentError
from agent.domain.swarm import unchangeable
from agent.domain.swarm.stack_file import StackFile
from agent.domain.swarm.unchangeable import Unchangeable


async def refuse(engine: Engine, ready: Ready, file: StackFile, *, other: bool) -> None:
    """Touches nothing. Raises :class:`PermanentError`, and what :class:`Engine` raises.

    ``other`` is whether the stack is another than the one that runs: networks and volumes that
    have been different all along stop no repair. Volumes are those of this node.
    """
    stack = ready.stack.name
    there = await cluster.services(engine, stack)
    found = [*unchangeable.modes(stack, file.services, there)]
    if other and file.networks:
        made = await networks.labelled(engine, stack)
        found += unchangeable.networks(stack, file.networks, made)
    if other and file.volumes:
        names = unchangeable.volume_names(stack, file.volumes).values()
        here = await resources.volumes(engine, frozenset(names))
        found += unchangeable.volumes(stack, file.volumes, here)
    if found:
        raise await anyio.to_thread.run_sync(_refusal, ready, found)


def _refusal(ready: Ready, found: list[Unchangeable]) -> PermanentError:
    """Blocks."""
    message = "; ".join(each.message for each in found)
    error = PermanentError(message, where=ready.place(found[0].path), hint=found[0].hint)
    words.conceal(error, ready.invocation.hidden)
    return error
