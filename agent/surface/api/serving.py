"""The API's listeners: open while the agent works, closed and removed with it.

The Unix socket is always there; TCP only where ``listen:`` is set.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.host import peer
from agent.adapters.host.directories import SOCKET
from agent.control.outside.running import Running
from agent.surface.listening import begin, listening, tcp

log = logging.getLogger("commitd.api")


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[None]:
    """Answer while the block runs. What goes wrong here is logged, and stops no deploy."""
    path, listen = running.config.runtime_dir / SOCKET, running.config.listen
    async with AsyncExitStack() as listeners:
        on_socket = _listening(running, str(path), partial(_bind, path))
        if await listeners.enter_async_context(on_socket):
            listeners.push_async_callback(_remove, path)
        if listen:
            await listeners.enter_async_context(_listening(running, listen, partial(tcp, listen)))
        yield


_listening = partial(listening, module="agent.surface.api.server", what="API")


async def _remove(path: Path) -> None:
    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
        except OSError as err:
            log.warning("%s cannot be removed: %s", path, err)


def _bind(path: Path) -> socket.socket:
    """The socket at ``path``, replacing what a killed agent left.

    From its first moment it is its owner's alone; then those who may ask can open it, too.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        if (askers := peer.askers()) is not None:
            os.chown(path, -1, askers)
            path.chmod(0o660)
        begin(listener)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener
