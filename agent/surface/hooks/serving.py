"""The listener for webhooks: only where ``hooks:`` is set, and on a port of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from agent.control.outside.running import Running
from agent.surface.listening import listening, tcp


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[None]:
    """Take hooks while the block runs. What goes wrong here is logged, and stops no deploy."""
    if (hooks := running.config.hooks) is None:
        yield
        return
    opening = partial(tcp, hooks.listen)
    module = "agent.surface.hooks.receiver"
    async with listening(running, hooks.listen, opening, module=module, what="place for hooks"):
        yield
