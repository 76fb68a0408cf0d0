"""The API's listeners: open while the agent works, closed and removed with it.

The Unix socket is always there; TCP only where ``listen:`` is set. Most agents are never asked. So
what answers, with a library that takes 10 MB, is loaded when the first connection waits; the kernel
keeps that one until then.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters.host import peer
from agent.adapters.host.api_socket import SOCKET
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.domain.outside_config import address

log = logging.getLogger("commitd.api")

BACKLOG = 64
"""More than are served at once: the first ones wait until what answers them is loaded."""
_IP_FREEBIND = 15
"""Of ip(7): bind to an address that this machine gets later, such as that of a VPN."""


@asynccontextmanager
async def serving(running: Running) -> AsyncIterator[None]:
    """Answer while the block runs. What goes wrong here is logged, and stops no deploy."""
    path, listen = running.config.runtime_dir / SOCKET, running.config.listen
    async with AsyncExitStack() as listeners:
        on_socket = _listening(running, str(path), partial(_bind, path))
        if await listeners.enter_async_context(on_socket):
            listeners.push_async_callback(_remove, path)
        if listen:
            await listeners.enter_async_context(_listening(running, listen, partial(_tcp, listen)))
        yield


@asynccontextmanager
async def _listening(
    running: Running, where: str, opening: Callable[[], socket.socket]
) -> AsyncIterator[bool]:
    """Answer on what ``opening`` (it blocks) opens; whether it could be opened."""
    try:
        listener = await anyio.to_thread.run_sync(opening)
    except OSError as err:
        log.warning("there is no API on %s: %s", where, err)
        yield False
        return
    try:
        async with task_group() as group:
            group.start_soon(_answer, running, listener, where)
            try:
                yield True
            finally:
                group.cancel_scope.cancel()
    finally:
        listener.close()


async def _remove(path: Path) -> None:
    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
        except OSError as err:
            log.warning("%s cannot be removed: %s", path, err)


async def _answer(running: Running, listener: socket.socket, where: str) -> None:
    try:
        await anyio.wait_readable(listener)
        server: Any = await anyio.to_thread.run_sync(
            importlib.import_module, "agent.surface.api.server"
        )
        await server.answer(running, listener, where)
    except OSError as err:
        log.warning("there is no API on %s: %s", where, err)
    except Exception:
        log.exception("there is no API on %s: unexpected", where)
    finally:
        listener.close()  # or whoever connects would wait for an answer for ever


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
        _listen(listener)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _tcp(listen: str) -> socket.socket:
    """A socket on that address and port."""
    host, port = address(listen)
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((host, port))
        _listen(listener)
    except OSError:
        listener.close()
        raise
    return listener


def _listen(listener: socket.socket) -> None:
    listener.listen(BACKLOG)
    listener.settimeout(0)
