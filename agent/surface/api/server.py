"""What answers those who ask the API; loaded with its library once somebody does."""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import cast

import anyio
import anyio.to_thread
from aiohttp import web

from agent.adapters.host import peer
from agent.adapters.host.token_file import read_token
from agent.control.outside.running import Running
from agent.domain.config import Config
from agent.domain.errors import CommitdError
from agent.surface.api.access import Access, SocketAccess, TcpAccess, names
from agent.surface.api.application import application
from agent.surface.api.connections import Connections
from agent.surface.api.serving import BACKLOG

log = logging.getLogger("commitd.api")

_UNHEARD = logging.getLogger("commitd.api.unheard")
"""For what aiohttp has to say of clients that speak no HTTP: nobody may fill the log with that."""
_UNHEARD.disabled = True


async def answer(running: Running, listener: socket.socket, where: str) -> None:
    """Answer on ``listener``, which is at ``where``, until cancelled."""
    by = _on_socket if listener.family == socket.AF_UNIX else _by_tcp
    try:
        access = await anyio.to_thread.run_sync(by, running.config)
    except CommitdError as err:
        log.warning("there is no API on %s: %s", where, err)
        return
    connections = Connections(where)
    routes = application(running, connections, access)
    runner = web.AppRunner(routes, access_log=None, logger=_UNHEARD, shutdown_timeout=1)
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
                log.exception("the API on %s did not end as it should", where)


def _on_socket(config: Config) -> Access:
    writers = peer.group(config.api.writers) if config.api.writers else None
    return SocketAccess(peer.askers(), writers)


def _by_tcp(config: Config) -> Access:
    file = config.api.token_file
    return TcpAccess(names(config), read_token(file, "api.token_file") if file else None)
