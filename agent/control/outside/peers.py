"""What other hosts say of themselves, asked for while somebody looks.

    somebody looks ─▶ those not asked within FRESH_S are asked ─▶ what is known after PATIENCE_S
                         └ a bounded answer, read strictly: kept until there is a newer one

Nobody waits for a host that does not answer: it is shown with what it said last, and when. What is
kept of each is what a page shows of it in one line, and the document, compressed, for a page of its
own. A peer is believed in nothing: see :mod:`agent.domain.status.peer_status`.

Names are looked up in threads of their own, one for each peer and none anew before it is done:
asyncio has a few for all, in which hung lookups would keep those for Git's remotes waiting.
"""

from __future__ import annotations

import logging
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.host.token_file import read_token
from agent.adapters.outside import http
from agent.adapters.probes import http_errors
from agent.adapters.state.database import utcnow
from agent.domain.errors import CommitdError, PermanentError, UnreachableError
from agent.domain.outside_config import Peer
from agent.domain.status import peer_status

log = logging.getLogger("commitd.page")

FRESH_S = 5.0
PATIENCE_S = 2.0
WITHIN_S = 4.0
"""For one answer, of which not one byte more than ``MOST`` is read."""
MOST = 1024 * 1024
_AT_ONCE = 32
_READ_AT_ONCE = 2
"""A document takes ten times its length while it is read."""
_KEPT = 8 * 1024 * 1024
"""Bytes of all documents together; one that does not fit is asked for when it is looked at."""
_OK = 200

Line = TypeVar("Line")


class Sighting(Struct, Generic[Line], frozen=True, kw_only=True):
    """What is known of a peer. ``line`` is of what it said last, at ``seen_at`` (ISO 8601).

    ``error`` is why it does not answer now; without ``asked`` it has not had the time to.
    """

    name: str
    url: str
    line: Line | None = None
    seen_at: str | None = None
    error: str | None = None
    asked: bool = False


class _Known(Generic[Line]):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.sighting: Sighting[Line] = Sighting(name=peer.name, url=peer.url)
        self.packed: bytes | None = None
        self.begun_at = self.asked_at = float("-inf")
        self.asking: anyio.Event | None = None
        self.trust: ssl.SSLContext | None = None

    def seen(self) -> Sighting[Line]:
        """What is known of it, with an error also while it takes longer than it may."""
        overdue = self.asking is not None and self.begun_at + WITHIN_S <= time.monotonic()
        if not overdue or self.sighting.error:
            return self.sighting
        return replace(self.sighting, error=f"no answer within {WITHIN_S:g} s", asked=True)


class Peers(Generic[Line]):
    """Those of one configuration; ``line`` makes of a document what is kept of it.

    They are asked in ``group``, which outlives whoever looks.
    """

    def __init__(
        self,
        peers: Iterable[Peer],
        line: Callable[[Mapping[str, Any]], Line],
        group: TaskGroup,
    ) -> None:
        self._group = group
        self._known: dict[str, _Known[Line]] = {peer.name: _Known(peer) for peer in peers}
        self._line = line
        self._turns = anyio.Semaphore(_AT_ONCE)
        self._readers = anyio.CapacityLimiter(_READ_AT_ONCE)
        self._lookups = anyio.CapacityLimiter(max(1, len(self._known)))

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __bool__(self) -> bool:
        return bool(self._known)

    async def look(self) -> list[Sighting[Line]]:
        """All of them, as they were configured."""
        await self._ask(self._known.values(), PATIENCE_S)
        return [known.seen() for known in self._known.values()]

    async def document(self, name: str) -> tuple[Sighting[Line], dict[str, Any] | None]:
        """One of them, and its status document; None: it has told none that was kept."""
        known = self._known[name]
        await self._ask([known], WITHIN_S + 1)
        packed = known.packed
        if packed is None:
            return known.seen(), None
        return known.seen(), await anyio.to_thread.run_sync(_unpacked, packed)

    async def _ask(self, those: Iterable[_Known[Line]], patience_s: float) -> None:
        now = time.monotonic()
        for known in those:
            if known.asking is None and known.asked_at + FRESH_S <= now:
                known.asking = anyio.Event()
                known.begun_at = now
                self._group.start_soon(self._asked, known, known.asking)
        with anyio.move_on_after(patience_s):
            for each in [known.asking for known in those if known.asking]:
                await each.wait()

    async def _asked(self, known: _Known[Line], done: anyio.Event) -> None:
        before = known.sighting
        try:
            await self._look_up(urlsplit(known.peer.url).hostname or "")
            async with self._turns:
                content = await self._told(known)
            line, packed = await anyio.to_thread.run_sync(
                self._read, content, limiter=self._readers
            )
        except CommitdError as err:
            error = f"{err.message}; {err.hint}" if err.hint else err.message
            known.sighting = replace(before, error=error, asked=True)
        except Exception:
            log.exception("asking %s: unexpected", known.peer.name)
            error = "unexpected error; the log of the agent that shows this says more"
            known.sighting = replace(before, error=error, asked=True)
        else:
            kept = sum(
                len(each.packed or b"") for each in self._known.values() if each is not known
            )
            known.packed = packed if kept + len(packed) <= _KEPT else None
            known.sighting = Sighting(
                name=before.name, url=before.url, line=line, seen_at=utcnow(), asked=True
            )
        finally:
            known.asked_at = time.monotonic()
            known.asking = None
            done.set()

    async def _look_up(self, host: str) -> None:
        """Have it found that this name leads somewhere, so that it is found soon once more."""
        look = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        try:
            await anyio.to_thread.run_sync(look, limiter=self._lookups, abandon_on_cancel=True)
        except (OSError, UnicodeError) as err:
            raise UnreachableError(http_errors.unconnected(err, host)) from None

    async def _told(self, known: _Known[Line]) -> bytes:
        peer = known.peer
        headers = {"Accept": "application/json"}
        if peer.token_file:
            what = f"peers: token_file of {peer.name}"
            token = await anyio.to_thread.run_sync(read_token, peer.token_file, what)
            headers["Authorization"] = f"Bearer {token.decode()}"
        if known.trust is None and peer.url.startswith("https://"):
            known.trust = await anyio.to_thread.run_sync(http.trusted, peer.ca_file)
        url = f"{peer.url.rstrip('/')}/v1/status"
        reply = await http.ask("GET", url, headers, trust=known.trust, within_s=WITHIN_S, most=MOST)
        if reply.status != _OK:
            raise _refusal(reply.status, peer.token_file)
        return reply.body

    def _read(self, content: bytes) -> tuple[Line, bytes]:
        return self._line(peer_status.read(content)), zlib.compress(content, 1)


def _refusal(status: int, token_file: Path | None) -> PermanentError:
    match status:
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
            return PermanentError(f"{status}: what answers there is not the API of an agent")


def _unpacked(packed: bytes) -> dict[str, Any]:
    return peer_status.read(zlib.decompress(packed))
