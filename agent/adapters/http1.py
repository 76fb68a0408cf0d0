"""HTTP/1.1 as a client: one request at a time on one connection, and nothing beyond it.

The engine and Git servers are asked this way. What the protocol means is h11's: it writes requests,
reads heads, lengths and chunks, and knows when a connection can be used again. This module carries
its bytes over asyncio's streams, each as soon as it comes.

The other side may be anybody. A head, the line before a chunk and trailers are bounded, an answer
whose length is unclear is an error, and after any error or an answer that was not read completely
the connection is of no use: :meth:`Connection.abort` it. Time is the caller's to bound, which ends
an answer that is always still to come (100), too. Redirects, cookies, proxies and compression are
not followed, sent, asked or undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import anyio
import h11

_HEAD_MAX = 16 * 1024
"""Bytes of a status line with all headers, and of what is neither that nor body."""
_HEAD_PIECE = 1024
"""What is read at once of a head: h11 refuses one that is too long while more of it is to come."""
_PIECE = 64 * 1024
_BODY_MAX = 256 * 1024 * 1024
"""A listing of tens of thousands of containers is smaller."""
_BEGIN = b"HTTP/1."


class NoHttpError(ValueError):
    """What the other side sends is no answer of HTTP/1.1."""


class CutOffError(ConnectionError):
    """The other side has ended the connection; ``late``: amid an answer."""

    def __init__(self, *, late: bool) -> None:
        super().__init__("the answer ends too soon" if late else "the connection broke")
        self.late = late


class Answer:
    """A status with its headers (names in small letters), and a body that is still to be read."""

    def __init__(self, connection: Connection, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection

    @property
    def reusable(self) -> bool:
        """Whether all was read, and another request may follow."""
        return self._connection.is_ready

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes; after 101 all that follows.

        Raises :class:`CutOffError` and :class:`NoHttpError`.
        """
        return self._connection.pieces()

    async def body(self, most: int = _BODY_MAX) -> bytes:
        """All of it. Raises :class:`NoHttpError` for more than ``most`` bytes, too."""
        found = bytearray()
        async for piece in self.pieces():
            found += piece
            if len(found) > most:
                raise NoHttpError("the answer is too long")
        return bytes(found)

    async def lines(self, longest: int) -> AsyncIterator[bytes]:
        """The body line by line, without their ends; none may be longer than that many bytes."""
        begun = bytearray()
        async for piece in self.pieces():
            *ended, left = piece.split(b"\n")
            for line in ended:
                yield bytes(begun + line)
                begun.clear()
            begun += left
            if len(begun) > longest:
                raise NoHttpError("a line is too long")
        if begun:
            yield bytes(begun)


class Connection:
    """A connection that was made, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX)

    async def is_idle(self) -> bool:
        """Whether, for all that shows, the other side waits for a request: it has not ended it.

        Nor has it said anything unasked (some say 408 before they end it), which would be taken
        for the next answer: such a connection is of no use.
        """
        with anyio.CancelScope() as at_once:
            at_once.cancel()  # what is there is read all the same
            await self._reader.read(1)
            return False
        return not self._writer.is_closing()

    @property
    def is_ready(self) -> bool:
        """Whether an answer was read completely, nothing came after it, and neither side closes."""
        done = self._protocol.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}
        return done and self._protocol.trailing_data == (b"", False)

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send a request, and read the answer up to its body.

        Raises :class:`CutOffError`, :class:`NoHttpError`, OSError, and ValueError for a request
        that cannot be written.
        """
        fields = dict(headers)
        if body is not None:
            fields["Content-Length"] = str(len(body))
        try:
            request = h11.Request(method=method, target=target, headers=list(fields.items()))
        except (h11.LocalProtocolError, UnicodeEncodeError):
            # Its text could show a header that is a secret.
            raise ValueError("a request must hold neither line ends nor odd characters") from None
        if self.is_ready:
            self._protocol.start_next_cycle()
        parts = (request, h11.Data(data=body or b""), h11.EndOfMessage())
        await self.write(b"".join(self._protocol.send(part) for part in parts))
        while True:
            said = await self._event()
            switched = self._protocol.their_state is h11.SWITCHED_PROTOCOL
            if isinstance(said, h11.Response) or (
                isinstance(said, h11.InformationalResponse) and switched
            ):
                return Answer(self, said.status_code, _headers(said))

    async def write(self, data: bytes) -> None:
        """Send this as it is: what follows a switch to something else than HTTP."""
        self._writer.write(data)
        await self._writer.drain()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body of the answer, or what follows a switch: see :meth:`Answer.pieces`."""
        if self._protocol.their_state is h11.SWITCHED_PROTOCOL:
            piece = self._protocol.trailing_data[0] or await self._reader.read(_PIECE)
            while piece:
                yield piece
                piece = await self._reader.read(_PIECE)
            return
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    def abort(self) -> None:
        """Close the connection at once and drop what was not sent or read yet."""
        self._writer.transport.abort()

    async def _event(self) -> h11.Event:
        """What comes next of an answer, as soon as it is there."""
        late = self._protocol.their_state is h11.SEND_BODY
        while True:
            if not late and not _BEGIN.startswith(self._protocol.trailing_data[0][: len(_BEGIN)]):
                # h11 would wait for the end of a head first, which other protocols have not got.
                raise NoHttpError("what answers does not speak HTTP/1.1")
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError:
                # Its text would show what the other side sent.
                if self._protocol.trailing_data[1]:  # what came before the end was read already
                    raise CutOffError(late=late) from None
                raise NoHttpError("the answer is not as HTTP/1.1 has it") from None
            if isinstance(event, h11.Event):
                return event
            self._protocol.receive_data(await self._reader.read(_PIECE if late else _HEAD_PIECE))


def _headers(said: h11.Response | h11.InformationalResponse) -> dict[str, str]:
    """Those of one name put together."""
    found: dict[str, str] = {}
    for raw_name, raw_value in said.headers:
        name, value = raw_name.decode(), raw_value.decode(errors="replace")
        found[name] = f"{found[name]}, {value}" if name in found else value
    if "transfer-encoding" in found and "content-length" in found:
        # h11 believes the first, as the standard says; what lies between may believe the other.
        raise NoHttpError("the length of the answer is unclear")
    return found
