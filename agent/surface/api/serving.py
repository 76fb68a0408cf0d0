"""The API's socket: listened on while the agent works, closed and removed with it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
from aiohttp import web

from agent.adapters.host.api_socket import SOCKET
from agent.control.outside.running import Running
from agent.surface.api.application import application
from agent.surface.api.connections import Connections

log = logging.getLogger("commitd.api")

_BACKLOG = 16


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[None]:
    """Answer while the block runs. What goes wrong here is logged, and stops no deploy."""
    path = running.config.runtime_dir / SOCKET
    connections = Connections(str(path))
    routes = application(running, connections)
    runner = web.AppRunner(routes, access_log=None, shutdown_timeout=1)
    listening: asyncio.AbstractServer | None = None
    try:
        await runner.setup()
        listener = await anyio.to_thread.run_sync(_bind, path)
        accept = partial(connections.accept, cast("web.Server", runner.server))
        loop = asyncio.get_running_loop()
        listening = await loop.create_unix_server(accept, sock=listener, backlog=_BACKLOG)
    except OSError as err:
        log.warning("there is no API on %s: %s", path, err)
    except Exception:
        log.exception("there is no API on %s: unexpected", path)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            try:
                if listening:
                    listening.close()
                await runner.cleanup()
                connections.close()
                await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
            except Exception:
                log.exception("the API on %s did not end as it should", path)


def _bind(path: Path) -> socket.socket:
    """The socket at ``path``, 0600 from its first moment; replaces what a killed agent left."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
