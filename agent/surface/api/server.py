"""What answers those who ask the API; loaded with its library once somebody does."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from pathlib import Path
from typing import cast

import anyio
from aiohttp import web

from agent.control.outside.running import Running
from agent.surface.api.application import application
from agent.surface.api.connections import Connections
from agent.surface.api.serving import BACKLOG

log = logging.getLogger("commitd.api")


async def answer(running: Running, listener: socket.socket, path: Path) -> None:
    """Answer on ``listener``, which is at ``path``, until cancelled."""
    connections = Connections(str(path))
    routes = application(running, connections)
    runner = web.AppRunner(routes, access_log=None, shutdown_timeout=1)
    listening: asyncio.AbstractServer | None = None
    try:
        await runner.setup()
        accept = partial(connections.accept, cast("web.Server", runner.server))
        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(accept, sock=listener, backlog=BACKLOG)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            try:
                if listening is not None:
                    listening.close()
                await runner.cleanup()
                connections.close()
            except Exception:
                log.exception("the API on %s did not end as it should", path)
