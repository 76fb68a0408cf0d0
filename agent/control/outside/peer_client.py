"""One question to another agent, which is believed in nothing.

    a thread of the peer's own looks its name up ─▶ one of AT_ONCE connections ─▶ read strictly

asyncio looks names up in a few threads for all, in which hung lookups would keep those for Git's
remotes waiting: each peer has one thread at most, and none anew before that is done.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from agent.adapters.host.token_file import read_token
from agent.adapters.outside import http
from agent.adapters.probes import http_errors
from agent.domain.errors import CommitdError, PermanentError, UnreachableError
from agent.domain.outside_config import Peer

log = logging.getLogger("commitd.page")

MOST = 1024 * 1024
"""Bytes of an answer; not one more is read."""
_AT_ONCE = 32
_READ_AT_ONCE = 2
"""A document takes ten times its length while it is read."""
_OK = 200

Found = TypeVar("Found")


class MissingError(PermanentError):
    """404: there is no such thing there, or no agent."""


class _Way:
    """To one peer."""

    def __init__(self) -> None:
        self.lookup = anyio.Lock()
        self.trust: ssl.SSLContext | None = None


class Client:
    """Asks the peers of one configuration."""

    def __init__(self, peers: Iterable[Peer]) -> None:
        self._ways = {peer.name: _Way() for peer in peers}
        self._turns = anyio.Semaphore(_AT_ONCE)
        self._readers = anyio.CapacityLimiter(_READ_AT_ONCE)
        self._lookups = anyio.CapacityLimiter(max(1, len(self._ways)))

    async def ask(
        self, peer: Peer, path: str, read: Callable[[bytes], Found], within_s: float
    ) -> Found:
        """What ``read``, which blocks, makes of the answer.

        Raises :class:`CommitdError`; :class:`MissingError` where there is no such thing.
        """
        await self._look_up(peer)
        async with self._turns:
            content = await self._told(peer, path, within_s)
        return await anyio.to_thread.run_sync(read, content, limiter=self._readers)

    async def _look_up(self, peer: Peer) -> None:
        """Have it found that this name leads somewhere, so that it is found soon once more."""
        host = urlsplit(peer.url).hostname or ""
        look = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        try:
            async with self._ways[peer.name].lookup:
                await anyio.to_thread.run_sync(look, limiter=self._lookups, abandon_on_cancel=True)
        except (OSError, UnicodeError) as err:
            raise UnreachableError(http_errors.unconnected(err, host)) from None

    async def _told(self, peer: Peer, path: str, within_s: float) -> bytes:
        way = self._ways[peer.name]
        headers = {"Accept": "application/json"}
        if peer.token_file:
            what = f"peers: token_file of {peer.name}"
            token = await anyio.to_thread.run_sync(read_token, peer.token_file, what)
            headers["Authorization"] = f"Bearer {token.decode()}"
        if way.trust is None and peer.url.startswith("https://"):
            way.trust = await anyio.to_thread.run_sync(http.trusted, peer.ca_file)
        url = f"{peer.url.rstrip('/')}{path}"
        reply = await http.ask("GET", url, headers, trust=way.trust, within_s=within_s, most=MOST)
        if reply.status != _OK:
            raise _refusal(reply.status, peer.token_file)
        return reply.body


def said(err: Exception, peer: Peer) -> str:
    """What a page says of it; what nobody has foreseen is in the log."""
    if isinstance(err, CommitdError):
        return f"{err.message}; {err.hint}" if err.hint else err.message
    log.error("asking %s: unexpected", peer.name, exc_info=err)
    return "unexpected error; the log of the agent that shows this says more"


def _refusal(status: int, token_file: Path | None) -> PermanentError:
    match status:
        case 400:
            return PermanentError("400: it does not know what is asked; is it an older version?")
        case 401 if token_file:
            return PermanentError(f"401: the token in {token_file} is not accepted there")
        case 401:
            return PermanentError("401: a token is needed there", hint="set its token_file")
        case 421:
            return PermanentError("421: that host is not called so", hint="see api.hosts there")
        case 503:
            return PermanentError("503: its agent cannot tell now how the host is")
        case _ if 300 <= status < 400:  # noqa: PLR2004
            return PermanentError(f"{status}: we are sent elsewhere, which is not followed")
        case _:
            kind = MissingError if status == 404 else PermanentError  # noqa: PLR2004
            return kind(f"{status}: what answers there is not the API of an agent")
