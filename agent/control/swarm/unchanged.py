"""Refusing a stack of which a Swarm would not change what is declared another way now."""

from __future__ import annotations

import anyio.to_thread

from agent.adapters.engine import resources, words
from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, networks
from agent.control.stack.ready import Ready
from agent.domain.errors import PermanentError
from agent.domain.swarm import stack_file, unchangeable
from agent.domain.swarm.unchangeable import Unchangeable


async def refuse(engine: Engine, ready: Ready, *, other: bool) -> None:
    """Touches nothing. Raises :class:`PermanentError`, and what :class:`Engine` raises.

    ``other`` is whether the stack is another than the one that runs: networks and volumes that
    have been different all along stop no repair. Volumes are those of this node.
    """
    if found := await _found(engine, ready, other=other):
        raise await anyio.to_thread.run_sync(_refusal, ready, found)


async def foresee(engine: Engine, ready: Ready) -> str | None:
    """Why the stack would be refused if it were deployed now. Raises what Engine raises."""
    found = await _found(engine, ready, other=True)
    return str(await anyio.to_thread.run_sync(_refusal, ready, found)) if found else None


async def _found(engine: Engine, ready: Ready, *, other: bool) -> list[Unchangeable]:
    stack = ready.stack.name
    root = str(ready.invocation.checkout)
    draft = await anyio.to_thread.run_sync(stack_file.read, stack, ready.model, root)
    there = await cluster.services(engine, stack)
    found = [*unchangeable.modes(stack, draft.services, there)]
    if other and (wanted := draft.document.get("networks")):
        made = await networks.labelled(engine, stack)
        found += unchangeable.networks(stack, wanted, made)
    if other and (wanted := draft.document.get("volumes")):
        names = unchangeable.volume_names(stack, wanted).values()
        here = await resources.volumes(engine, frozenset(names))
        found += unchangeable.volumes(stack, wanted, here)
    return found


def _refusal(ready: Ready, found: list[Unchangeable]) -> PermanentError:
    """Blocks."""
    message = "; ".join(each.message for each in found)
    error = PermanentError(message, where=ready.place(found[0].path), hint=found[0].hint)
    words.conceal(error, ready.invocation.hidden)
    return error
