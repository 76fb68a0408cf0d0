"""Sockets that wait for others, and load what answers them once somebody has connected.

Most agents are never asked. So what answers, with a library that takes 10 MB, is loaded when the
first connection waits; the kernel keeps that one until then.
"""

from __future__ import annotations

import importlib
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.domain.errors import CommitdError
from agent.domain.outside_config import address

log = logging.getLogger("commitd.api")

BACKLOG = 64
"""More than are served at once: the first ones wait until what answers them is loaded."""
_IP_FREEBIND = 15
"""Of ip(7): bind to an address that this machine gets later, such as that of a VPN."""


@asynccontextmanager
async def listening(
    running: Running,
    where: str,
    opening: Callable[[], socket.socket],
    *,
    module: str,
    what: str,
) -> AsyncIterator[bool]:
    """Answer on what ``opening`` (it blocks) opens; whether it could be opened.

    By ``answer(running, listener, where)`` of ``module``. What goes wrong is logged, as that
    ``there is no WHAT on WHERE``, and is in ``status`` as ``listen:WHERE``.
    """
    try:
        listener = await anyio.to_thread.run_sync(opening)
    except OSError as err:
        _none(running, where, what, err)
        yield False
        return
    try:
        async with task_group() as group:
            group.start_soon(_answer, running, listener, where, module, what)
            try:
                yield True
            finally:
                group.cancel_scope.cancel()
    finally:
        listener.close()


async def _answer(
    running: Running, listener: socket.socket, where: str, module: str, what: str
) -> None:
    try:
        while True:
            await anyio.wait_readable(listener)
            server: Any = await anyio.to_thread.run_sync(importlib.import_module, module)
            try:
                await server.answer(running, listener, where)
            except CommitdError as err:  # a token that cannot be read, and soon can be
                _none(running, where, what, err, again="; the next connection has it tried again")
                _turn_away(listener)
    except Exception as err:  # noqa: BLE001  all else goes on
        _none(running, where, what, err)
    finally:
        listener.close()  # or whoever connects would wait for an answer for ever


def _turn_away(listener: socket.socket) -> None:
    """Close the connections that wait, as nobody can answer them."""
    with suppress(BlockingIOError):
        for _ in range(BACKLOG):
            with suppress(ConnectionAbortedError):
                listener.accept()[0].close()


def works(running: Running, where: str) -> None:
    """It is answered on ``where``, from now on."""
    if _name(where) in running.trouble.current:
        log.info("%s is answered again", where)
        running.trouble.clear(_name(where))


def _none(running: Running, where: str, what: str, err: Exception, again: str = "") -> None:
    """Say so: of what is tried ``again`` once for each error."""
    if isinstance(err, OSError | CommitdError):
        said = str(err)
        known = running.trouble.current.get(_name(where))
        if known is None or not said.startswith(known.error):
            log.warning("there is no %s on %s: %s%s", what, where, said, again)
    else:
        said = "unexpected error; the agent's log says more"
        log.error("there is no %s on %s: unexpected", what, where, exc_info=err)
    running.trouble.set(_name(where), said)


def _name(where: str) -> str:
    return f"listen:{where}"


def tcp(listen: str) -> socket.socket:
    """A socket on that address and port. Blocks; raises OSError."""
    host, port = address(listen)
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((host, port))
        begin(listener)
    except OSError:
        listener.close()
        raise
    return listener


def begin(listener: socket.socket) -> None:
    """Have a socket that is bound take connections."""
    listener.listen(BACKLOG)
    listener.settimeout(0)
