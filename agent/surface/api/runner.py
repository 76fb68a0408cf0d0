"""Has an application of aiohttp answer on a socket, within the limits of its connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import cast

import anyio
from aiohttp import web

from agent.surface.api.connections import Connections
from agent.surface.listening import BACKLOG

log = logging.getLogger("commitd.api")

_UNHEARD = logging.getLogger("commitd.api.unheard")
"""For what aiohttp has to say of clients that speak no HTTP: nobody may fill the log with that."""
_UNHEARD.disabled = True


async def serve(
    routes: web.Application, connections: Connections, listener: socket.socket, where: str
) -> None:
    """Answer on ``listener``, which is at ``where``, until cancelled."""
    # Compressed bodies stay so: a small one could become any size.
    runner = web.AppRunner(
        routes, access_log=None, logger=_UNHEARD, shutdown_timeout=1, auto_decompress=False
    )
    listening: asyncio.AbstractServer | None = None
    try:
        await runner.setup()
        accept = partial(connections.accept, cast("web.Server", runner.server))
        loop = asyncio.get_running_loop()
        if listener.family == socket.AF_UNIX:
            listening = await loop.create_unix_server(accept, sock=listener, backlog=BACKLOG)
        else:
            listening = await loop.create_server(accept, sock=listener, backlog=BACKLOG)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            try:
                if listening is not None:
                    listening.close()
                await runner.cleanup()
                connections.close()
            except Exception:
                log.exception("what answers on %s did not end as it should", where)
