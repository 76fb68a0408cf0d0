"""What was done on other hosts, asked for while somebody looks.

    somebody looks ─▶ each peer is asked the same, at once ─▶ what has come after PATIENCE_S
                         └ a bounded answer, read strictly: kept for FRESH_S, then forgotten

Those who look at the same get the same answer. A peer has few questions before it at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from agent.control.outside import peers
from agent.control.outside.peer_client import Client, MissingError, said
from agent.domain.outside_config import Peer
from agent.domain.status import peer_history

_AT_A_TIME = 4
"""Questions to one peer that are asked, or whose answers are kept."""
_OF_A_MONTH = 300
"""Actions; what is older is not in a picture."""
_READ_ONE = partial(peer_history.read, limit=1)
"""That it is the history of an agent."""

Line = TypeVar("Line")
Found = TypeVar("Found")
Document = Mapping[str, Any]
Narrowing = Sequence[tuple[str, str]]
"""Parameters of ``/v1/history`` by which it is narrowed."""
_Asked = tuple[str, str, Callable[[], Awaitable[Any]]]
"""A peer, by what the question is known, and what finds its answer."""


class Answer(Struct, Generic[Found], frozen=True, kw_only=True):
    """What a peer says to one question; ``error`` is why it says nothing."""

    name: str
    found: Found | None = None
    error: str | None = None


class Month(Struct, frozen=True, kw_only=True):
    """What pictures are made of. ``full``: more may have been done."""

    entries: Sequence[Document]
    outages: Sequence[Document]
    full: bool


def _read_month(content: bytes) -> Sequence[Document]:
    """Of each action no more than a picture shows."""
    found = peer_history.read(content, limit=_OF_A_MONTH)
    return [{key: each[key] for key in ("at", "action", "status", "subject")} for each in found]


class _Question:
    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer: Answer[Any] | None = None


class PeerHistories(Generic[Line]):
    """Of the peers of one configuration; ``line`` makes of an action what is kept of it.

    They are asked in ``group``, which outlives whoever looks.
    """

    def __init__(
        self,
        those: Iterable[Peer],
        client: Client,
        line: Callable[[Document], Line],
        group: TaskGroup,
    ) -> None:
        self._peers = {peer.name: peer for peer in those}
        self._client = client
        self._line = line
        self._group = group
        self._known: dict[str, dict[str, _Question]] = {name: {} for name in self._peers}

    def __contains__(self, name: object) -> bool:
        return name in self._peers

    @property
    def names(self) -> Sequence[str]:
        """As they were configured."""
        return tuple(self._peers)

    async def of(
        self, name: str, before: int, wanted: Narrowing, limit: int
    ) -> tuple[Answer[Sequence[Line]], Answer[Month]]:
        """The newest actions of a peer, of numbers below ``before`` (0: of all), and its last 30
        days.
        """
        month = partial(self._month, self._peers[name])
        asked: list[_Asked] = [self._list(name, before, wanted, limit), (name, "month", month)]
        lines, past = await self._ask(asked, peers.WITHIN_S + 1)
        return lines, past

    async def of_all(
        self, before: Mapping[str, int], wanted: Narrowing, limit: int
    ) -> list[Answer[Sequence[Line]]]:
        """The newest actions of each peer, of numbers below that in ``before``."""
        asked = [self._list(name, before[name], wanted, limit) for name in self._peers]
        return await self._ask(asked, peers.PATIENCE_S)

    def _list(self, name: str, before: int, wanted: Narrowing, limit: int) -> _Asked:
        page = [("limit", str(limit)), *([("before", str(before))] if before else [])]
        path = f"/v1/history?{urlencode([*wanted, *page])}"
        read = partial(self._lines, limit=limit, before=before)
        return name, path, partial(self._told, self._peers[name], path, read)

    async def _told(
        self, peer: Peer, path: str, read: Callable[[bytes], Sequence[Line]]
    ) -> Sequence[Line]:
        try:
            return await self._client.ask(peer, path, read, peers.WITHIN_S)
        except MissingError:  # an agent says so where nothing is called as the subject
            await self._client.ask(peer, "/v1/history?limit=1", _READ_ONE, peers.WITHIN_S)
            return ()

    async def _month(self, peer: Peer) -> Month:
        path = f"/v1/history?since=30d&limit={_OF_A_MONTH}"
        entries = await self._client.ask(peer, path, _read_month, peers.WITHIN_S)
        outages = await self._client.ask(peer, "/v1/outages", peer_history.outages, peers.WITHIN_S)
        return Month(entries=entries, outages=outages, full=len(entries) == _OF_A_MONTH)

    def _lines(self, content: bytes, *, limit: int, before: int) -> Sequence[Line]:
        found = peer_history.read(content, limit=limit, before=before)
        return tuple(map(self._line, found))

    async def _ask(self, asked: Iterable[_Asked], patience_s: float) -> list[Answer[Any]]:
        questions = [(each[0], self._begun(*each)) for each in asked]
        with anyio.move_on_after(patience_s):
            for _, each in questions:
                await each.done.wait()
        late = f"no answer within {patience_s:g} s"
        return [each.answer or Answer(name=name, error=late) for name, each in questions]

    def _begun(self, name: str, what: str, work: Callable[[], Awaitable[Any]]) -> _Question:
        known = self._known[name]
        if what in known:
            return known[what]
        question = _Question()
        if len(known) >= _AT_A_TIME:
            over = next((key for key, each in known.items() if each.answer), None)
            if over is None:
                question.answer = Answer(
                    name=name, error=f"{_AT_A_TIME} earlier questions wait for it"
                )
                question.done.set()
                return question
            del known[over]
        known[what] = question
        self._group.start_soon(self._asked, name, what, question, work)
        return question

    async def _asked(
        self, name: str, what: str, question: _Question, work: Callable[[], Awaitable[Any]]
    ) -> None:
        try:
            question.answer = Answer(name=name, found=await work())
        except Exception as err:  # noqa: BLE001  said on the page
            question.answer = Answer(name=name, error=said(err, self._peers[name]))
        finally:
            question.done.set()
        await anyio.sleep(peers.FRESH_S)
        if self._known[name].get(what) is question:
            del self._known[name][what]
