"""How many may ask the API at once, and for how long one may keep the agent waiting.

Every connection takes a descriptor of the agent, which its deploys and evictions need too. So only
some are taken, and none is kept that says nothing::

    accepted ─▶ asks within IDLE_S ─▶ is answered within ANSWER_S ─┐
        ▲            │ no: closed          │ no: closed            │
        └────────────┼─────────────────────┼── asks again ◀────────┘
    one too many ─▶ closed; logged once until half of them are free

Who closes before he was answered is not answered: what is made for him is given up at its next
await, or those who ask and leave would pile up behind an engine that hangs.

A stream that goes on for long is not one of them, or a few who listen would keep all others out:
there are ``STREAMS`` of these at most, and each looks itself after a client that does not read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import anyio
from aiohttp import web

from agent.surface.api.errors import ApiError, Handler

log = logging.getLogger("commitd.api")

MOST = 32
STREAMS = 16
IDLE_S = 5.0
"""Until a request is there as a whole: the first one, or another, or until an answer is read."""
_STREAM_BUFFER = 16 * 1024
ANSWER_S = 60.0
"""As long as the engine may take to list its containers, with others asking as well."""


class Connections:
    """Makes the connections of ``server``, as ``asyncio`` asks for them, and ends them in time.

    ``where`` is what they lead to, for the log.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._open: dict[web.RequestHandler, _Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._refuses = False

    def accept(self, server: web.Server) -> asyncio.BaseProtocol:
        """A new connection of ``server``, or one that is closed at once."""
        if len(self._open) - self._streams() >= MOST:
            if not self._refuses:
                log.warning("%s: %d connections are open; more are closed", self._where, MOST)
            self._refuses = True
            return _Refused()
        handler = server()
        self._open[handler] = _Connection(handler, self._ended)
        if self._timer is None:
            self._wait()
        return self._open[handler]

    @web.middleware
    async def answering(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Around each answer: while it is made, its connection is not idle; without, it is not."""
        connection = self._open.get(request.protocol)
        if connection is None:
            raise ConnectionResetError
        connection.may_take(ANSWER_S)
        try:
            with anyio.CancelScope() as connection.answer:
                return await handler(request)
        finally:
            connection.answer = None
            connection.may_take(IDLE_S)
        raise ConnectionResetError  # it was closed meanwhile

    @contextmanager
    def streaming(self, request: web.Request, end: Callable[[], None]) -> Iterator[None]:
        """Around an answer that goes on for long; ``end`` is called when the agent ends it.

        Raises :class:`ApiError` where there are too many of them.
        """
        if self._streams() >= STREAMS:
            raise ApiError(503, f"{STREAMS} streams are open", "close one, or come back later")
        connection = self._open.get(request.protocol)
        if connection is None:
            raise ConnectionResetError
        connection.begin_stream(end)
        try:
            yield
        finally:
            connection.end_stream = None
            connection.may_take(IDLE_S)

    def cut_off(self, request: web.Request) -> None:
        """Close the connection, with all that was not read."""
        if connection := self._open.get(request.protocol):
            connection.abort()

    def end_streams(self) -> None:
        """The agent ends, or reads its configuration again."""
        for connection in self._open.values():
            if connection.end_stream:
                connection.end_stream()

    def _streams(self) -> int:
        return sum(1 for connection in self._open.values() if connection.end_stream)

    def close(self) -> None:
        """No connection is looked after any more."""
        if self._timer:
            self._timer.cancel()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(IDLE_S / 5, self._end_overdue)

    def _end_overdue(self) -> None:
        for connection in list(self._open.values()):
            connection.end_if_overdue()
        self._timer = None
        if self._open:
            self._wait()

    def _ended(self, handler: web.RequestHandler) -> None:
        self._open.pop(handler, None)
        self._refuses = self._refuses and len(self._open) > MOST // 2


class _Connection(asyncio.Protocol):
    """One that ``handler`` answers; ``ended`` hears when it is closed, by whomever."""

    def __init__(
        self, handler: web.RequestHandler, ended: Callable[[web.RequestHandler], None]
    ) -> None:
        self._handler = handler
        self._ended = ended
        self._transport: asyncio.Transport | None = None
        self.end_stream: Callable[[], None] | None = None
        self.answer: anyio.CancelScope | None = None
        """That is being made."""
        self.may_take(IDLE_S)

    def may_take(self, seconds: float) -> None:
        """From now on, until something else happens."""
        self._until = asyncio.get_running_loop().time() + seconds

    def end_if_overdue(self) -> None:
        """Close it with all that was not read, if its time is over."""
        if self.end_stream is None and self._until <= asyncio.get_running_loop().time():
            self.abort()

    def begin_stream(self, end: Callable[[], None]) -> None:
        """From now on it answers for long; little is held of what the client does not read."""
        self.end_stream = end
        if self._transport:
            self._transport.set_write_buffer_limits(_STREAM_BUFFER)

    def abort(self) -> None:
        """Close it with all that was not read."""
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> None:
        self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer:
            self.answer.cancel()
        self._ended(self._handler)
        self._handler.connection_lost(exc)


class _Refused(asyncio.Protocol):
    """One too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()
