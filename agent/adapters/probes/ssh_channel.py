"""A fetch of Git's over an SSH connection that is kept: a channel of its own, as two pipes.

To connect takes Git many times as long as all the rest of fetching one commit::

    git fetch ◀─ cat ◀─ pipe ◀── asyncssh ◀── git upload-pack, on the server
              ─▶ cat ─▶ pipe ──▶          ──▶

The two ``cat`` are what Git is given in place of ``ssh``. (Its own ``fd::`` does not do: Git, and
all that it starts, would hold the pipes, so that the server never learns that Git has done.)
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

from agent.adapters.git.git import Channel
from agent.adapters.probes.asyncssh_import import asyncssh
from agent.domain.source import git_protocol

_KEEPALIVE_S = 5.0
"""While Git waits for the server; three of these without a word, and it is gone."""

_CLOSE_S = 0.5
"""For the server's word that the channel is closed: after it the connection is given up."""


@asynccontextmanager
async def channel(
    connection: asyncssh.SSHClientConnection, command: str, *, window: int, keepalive_s: float
) -> AsyncIterator[Channel | None]:
    """Both ends of ``command`` on the server; None where it cannot be started there.

    ``window`` bytes may be under way; ``keepalive_s`` is the pace of the connection afterwards.
    """
    from_git, written = os.pipe()
    read, to_git = os.pipe()
    source, target = io.FileIO(from_git, "rb"), io.FileIO(to_git, "wb")
    talk: asyncssh.SSHClientProcess[bytes] | None = None
    connection.set_keepalive(_KEEPALIVE_S)
    try:
        with suppress(asyncssh.Error, OSError):  # a server may allow one channel at a time
            talk = await connection.create_process(
                command,
                stdin=source,
                stdout=target,
                stderr=asyncssh.DEVNULL,
                env={"GIT_PROTOCOL": git_protocol.PROTOCOL},
                request_pty=False,
                encoding=None,
                window=window,
            )
        yield Channel(read, written) if talk else None
    finally:
        os.close(read)
        os.close(written)
        connection.set_keepalive(keepalive_s)
        if talk is None:  # if not, these are closed with it
            source.close()
            target.close()
        else:
            talk.close()
            with anyio.move_on_after(_CLOSE_S, shield=True) as scope:
                await talk.wait_closed()
            if scope.cancelled_caught:
                connection.abort()
