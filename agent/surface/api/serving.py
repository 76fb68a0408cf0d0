"""The API's socket: listened on while the agent works, closed and removed with it.

Most agents are never asked. So what answers, with a library that takes 10 MB, is loaded when the
first connection waits; the kernel keeps that one until then.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters.host.api_socket import SOCKET
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running

log = logging.getLogger("commitd.api")

BACKLOG = 64
"""More than are served at once: the first ones wait until what answers them is loaded."""


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[None]:
    """Answer while the block runs. What goes wrong here is logged, and stops no deploy."""
    path = running.config.runtime_dir / SOCKET
    try:
        listener = await anyio.to_thread.run_sync(_bind, path)
    except OSError as err:
        log.warning("there is no API on %s: %s", path, err)
        yield
        return
    try:
        async with task_group() as group:
            group.start_soon(_answer, running, listener, path)
            try:
                yield
            finally:
                group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            listener.close()
            try:
                await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
            except OSError as err:
                log.warning("%s cannot be removed: %s", path, err)


async def _answer(running: Running, listener: socket.socket, path: Path) -> None:
    try:
        await anyio.wait_readable(listener)
        server: Any = await anyio.to_thread.run_sync(
            importlib.import_module, "agent.surface.api.server"
        )
        await server.answer(running, listener, path)
    except OSError as err:
        log.warning("there is no API on %s: %s", path, err)
    except Exception:
        log.exception("there is no API on %s: unexpected", path)


def _bind(path: Path) -> socket.socket:
    """The socket at ``path``, 0600 from its first moment; replaces what a killed agent left."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        listener.settimeout(0)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
