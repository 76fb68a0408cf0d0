"""The agent's API on a Unix socket, for root alone: what the host knows, as JSON; it only tells.

``GET /v1/status`` is the document of ``commitd status --json``. ``GET /v1/words/STACK`` is what a
container of a stack with secrets has said before it failed: it is kept nowhere else.
"""

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
from agent.control.retry import LastWords
from agent.control.status import status as overview
from agent.domain.config import Config
from agent.domain.errors import CommitdError
from agent.surface.connections import Connections

log = logging.getLogger("commitd.api")

_AT_A_TIME = 2
"""Looks at the engine for those who ask."""
_BACKLOG = 16


@asynccontextmanager
async def serving(config: Config, words: LastWords) -> AsyncIterator[None]:
    """Answer while the block runs. What goes wrong here is logged, and stops no deploy."""
    path = config.runtime_dir / SOCKET
    connections = Connections(str(path))
    application = _application(config, connections, words)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
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


def _application(config: Config, connections: Connections, words: LastWords) -> web.Application:
    limiter = anyio.CapacityLimiter(_AT_A_TIME)

    def look() -> web.Response:
        return web.json_response(overview.now(config))

    async def status(_: web.Request) -> web.Response:
        try:
            return await anyio.to_thread.run_sync(look, limiter=limiter)
        except CommitdError as err:
            return web.json_response({"error": str(err)}, status=503)

    async def last_words(request: web.Request) -> web.Response:
        said = words.get(request.match_info["stack"])
        if said is None:
            return web.json_response({"error": "no output is kept for this stack"}, status=404)
        return web.json_response(dict(zip(("at", "text"), said, strict=True)))

    application = web.Application(middlewares=[connections.answering])
    application.router.add_get("/v1/status", status)
    application.router.add_get("/v1/words/{stack}", last_words)
    return application
