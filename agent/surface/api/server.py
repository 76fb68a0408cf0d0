"""What answers those who ask the API; loaded with its library once somebody does."""

from __future__ import annotations

import socket

import anyio.to_thread

from agent.adapters.host import peer
from agent.adapters.host.token_file import read_token
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.domain.config import Config
from agent.surface.api.access import Access, SocketAccess, TcpAccess, names
from agent.surface.api.application import application
from agent.surface.api.connections import Connections
from agent.surface.api.runner import serve
from agent.surface.listening import works


async def answer(running: Running, listener: socket.socket, where: str) -> None:
    """Answer on ``listener``, which is at ``where``, until cancelled.

    Raises :class:`CommitdError` when the token cannot be read.
    """
    by = _on_socket if listener.family == socket.AF_UNIX else _by_tcp
    access = await anyio.to_thread.run_sync(by, running.config)
    works(running, where)
    async with task_group() as group:
        connections = Connections(where)
        await serve(application(running, connections, access, group), connections, listener, where)


def _on_socket(config: Config) -> Access:
    writers = peer.group(config.api.writers) if config.api.writers else None
    return SocketAccess(peer.askers(), writers)


def _by_tcp(config: Config) -> Access:
    file = config.api.token_file
    return TcpAccess(names(config), read_token(file, "api.token_file") if file else None)
