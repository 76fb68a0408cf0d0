"""What was done: on this host, on one of its peers, or on all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from multidict import MultiDict, MultiMapping

from agent.control.outside.peer_histories import PeerHistories
from agent.control.status.history import Document, Wanted
from agent.surface.api import queries
from agent.surface.api.documents import Documents
from agent.surface.api.errors import NOT_FOUND, ApiError
from agent.surface.page.views import actions
from agent.surface.page.views.history import PERIODS, Asked, History, history, pictures
from agent.surface.page.views.merged import merged, places

_SHOWN = 100
"""Actions on one page."""
_OF_A_MONTH = 1000
ALL = "*"
"""In the place of a host; none can be called so."""
_NARROWING = ("subject", "action", "since", "until", "commit")


class Past:
    """The history that the page of the host ``own`` shows."""

    def __init__(self, own: str, documents: Documents, others: PeerHistories[actions.Line]) -> None:
        self._own = own
        self._documents = documents
        self._others = others
        self._hosts = (own, *others.names)

    async def view(self, query: MultiMapping[str]) -> History:
        """What these parameters ask for. Raises :class:`ApiError`."""
        filled = MultiDict((key, value) for key, value in query.items() if value)
        host = filled.pop("host", self._own)
        filled.setdefault("limit", str(_SHOWN))
        if host == ALL and self._others.names:
            return await self._of_all(filled)
        if host == self._own:
            return await self._of_this(filled)
        if host in self._others:
            return await self._of_peer(host, filled)
        raise ApiError(404, "no host of this name is known here")

    async def _of_this(self, filled: MultiDict[str]) -> History:
        limit, wanted, before = queries.narrowed(filled)
        found = await self._found(limit + 1, wanted, before)
        since = datetime.now(UTC) - timedelta(days=30)
        month = await self._documents.history(_OF_A_MONTH, Wanted(since=since))
        return history(
            self._own,
            _asked(filled),
            found=found[:limit],
            full=len(found) > limit,
            page=bool(before),
            month=month,
            outages=await self._documents.outages(),
            stacks={each["subject"] for each in month},
            full_month=len(month) == _OF_A_MONTH,
            hosts=self._hosts,
            now=datetime.now(UTC),
        )

    async def _of_peer(self, name: str, filled: MultiDict[str]) -> History:
        limit, _, before = queries.narrowed(filled)
        limit, asked = min(limit, _SHOWN), _asked(filled, name)
        told, past = await self._others.of(name, before, _narrowing(filled), limit + 1)
        lines, month = told.found or (), past.found
        return self._history(
            asked,
            host=name,
            stacks=tuple(sorted({each["subject"] for each in month.entries})) if month else (),
            lines=lines[:limit],
            older=asked.query(lines[limit - 1].id) if len(lines) > limit else None,
            newest=not before,
            pictures=pictures(month.entries, month.outages, datetime.now(UTC)) if month else (),
            unpictured=month.entries[-1]["at"] if month and month.full else None,
            silent=((name, told.error),) if told.error else (),
            blank=past.error,
        )

    async def _of_all(self, filled: MultiDict[str]) -> History:
        written = filled.pop("before", "")
        try:
            before = places(written, self._hosts)
        except ValueError as err:
            raise ApiError(400, f"before: {err}") from None
        limit, wanted, _ = queries.narrowed(filled)
        limit, asked = min(limit, _SHOWN), _asked(filled, ALL)
        own = await self._found(limit + 1, wanted, before[self._own])
        theirs = await self._others.of_all(before, _narrowing(filled), limit + 1)
        lists = {self._own: tuple(map(actions.line, own))}
        lists |= {each.name: tuple(each.found or ()) for each in theirs}
        lines, place = merged(lists, before, limit)
        return self._history(
            asked,
            stacks=tuple(sorted({line.subject for line in lines})),
            lines=lines,
            older=asked.query(place) if place else None,
            newest=not written,
            silent=tuple((each.name, each.error) for each in theirs if each.error),
        )

    def _history(self, asked: Asked, **given: Any) -> History:
        plain = {"host": "", "pictures": (), "unpictured": None, "silent": ()}
        return History(
            wanted=asked, kinds=actions.ACTIONS, periods=PERIODS, own=self._own, hosts=self._hosts,
            **{**plain, **given},
        )  # fmt: skip

    async def _found(self, limit: int, wanted: Wanted, before: int) -> list[Document]:
        try:
            return await self._documents.history(limit, wanted, before)
        except ApiError as err:
            if err.code != NOT_FOUND:
                raise
            return []  # a name that was mistyped into the form


def _asked(filled: MultiMapping[str], host: str = "") -> Asked:
    return Asked(host=host, **{key: filled.get(key, "") for key in ("subject", "action", "since")})


def _narrowing(filled: MultiMapping[str]) -> list[tuple[str, str]]:
    """As it was written: ``24h`` asks the same a moment later, and a time does not."""
    return [(key, value) for key, value in filled.items() if key in _NARROWING]
