"""What other hosts say of themselves, asked for while somebody looks.

    somebody looks ─▶ those not asked within FRESH_S are asked ─▶ what is known after PATIENCE_S
                         └ a bounded answer, read strictly: kept until there is a newer one

Nobody waits for a host that does not answer: it is shown with what it said last, and when. What is
kept of each is what a page shows of it in one line, and the document, compressed, for a page of its
own. A peer is believed in nothing: see :mod:`agent.domain.status.peer_status`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.state.database import utcnow
from agent.control.outside.peer_client import Client, said
from agent.domain.outside_config import Peer
from agent.domain.status import peer_status

FRESH_S = 5.0
PATIENCE_S = 2.0
WITHIN_S = 4.0
"""For one answer."""
_KEPT = 8 * 1024 * 1024
"""Bytes of all documents together; one that does not fit is asked for when it is looked at."""

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
        client: Client,
        line: Callable[[Mapping[str, Any]], Line],
        group: TaskGroup,
    ) -> None:
        self._group = group
        self._known: dict[str, _Known[Line]] = {peer.name: _Known(peer) for peer in peers}
        self._line = line
        self._client = client

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
            line, packed = await self._client.ask(known.peer, "/v1/status", self._read, WITHIN_S)
        except Exception as err:  # noqa: BLE001  said on the page
            known.sighting = replace(before, error=said(err, known.peer), asked=True)
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

    def _read(self, content: bytes) -> tuple[Line, bytes]:
        return self._line(peer_status.read(content)), zlib.compress(content, 1)


def _unpacked(packed: bytes) -> dict[str, Any]:
    return peer_status.read(zlib.decompress(packed))
