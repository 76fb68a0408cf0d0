"""``GET /v1/events``: each action as it begins and as it ends, as server-sent events.

The number of an event is its id: who comes back with ``Last-Event-ID`` misses none. The stream is
read from the journal in its own time, and what a client has not read is held by the kernel alone:
who does not take an event within ``WRITE_S`` is cut off. A browser's stream ends with its session.
"""

from __future__ import annotations

import json
import logging
import re

import anyio
from aiohttp import web

from agent.control.outside.running import Running
from agent.domain.errors import CommitdError
from agent.surface.api.access import Access
from agent.surface.api.connections import Connections
from agent.surface.api.errors import ApiError

log = logging.getLogger("commitd.api")

BEAT_S = 15.0
"""Between two lines while nothing happens: so that both sides know that the other is there."""
WRITE_S = 30.0
_AT_ONCE = 2
"""Events that a stream holds while its client does not read: some are long."""
_BEAT = b":\n\n"
_NUMBER = re.compile(r"[0-9]{1,18}")


class EventStreams:
    """The streams of one agent."""

    def __init__(self, running: Running, connections: Connections, access: Access) -> None:
        self._access = access
        self._news = running.journal.news
        self._connections = connections

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Tell until the client or the agent ends it."""
        last = request.headers.get("Last-Event-ID")
        if last is not None and not _NUMBER.fullmatch(last):
            raise ApiError(400, f"Last-Event-ID: {last[:40]!r} is not the number of an event")
        try:
            seq = await self._news.newest() if last is None else int(last)
        except CommitdError as err:
            raise ApiError.of(err) from None
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "Cache-Control": "no-store",
                "Last-Event-ID": str(seq),
            }
        )
        with anyio.CancelScope() as scope, self._connections.streaming(request, scope.cancel):
            await response.prepare(request)
            await self._write(request, response, _BEAT)
            try:
                await self._tell(request, response, seq)
            except CommitdError as err:  # the journal; the client comes back
                log.warning("a stream of events has ended: %s", err)
        return response

    async def _tell(self, request: web.Request, response: web.StreamResponse, seq: int) -> None:
        while True:
            events = []
            with anyio.move_on_after(BEAT_S):
                events = await self._news.after(seq, _AT_ONCE)
            if not self._access.admits(request):
                return
            for event in events:
                kind = "end" if event.ended else "begin"
                text = f"id: {event.seq}\nevent: {kind}\ndata: {json.dumps(event.as_json())}\n\n"
                await self._write(request, response, text.encode())
                seq = event.seq
            if not events:
                await self._write(request, response, _BEAT)

    async def _write(self, request: web.Request, response: web.StreamResponse, text: bytes) -> None:
        """Raises :class:`ConnectionError` once the client is gone, or does not read."""
        with anyio.move_on_after(WRITE_S) as late:
            await response.write(text)
        if late.cancelled_caught:
            self._connections.cut_off(request)
            raise ConnectionResetError
