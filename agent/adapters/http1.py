"""HTTP/1.1 as a client: one request at a time on one connection, and nothing beyond it.

The engine and Git servers are asked this way. A library that does all of HTTP took 12 MB of an idle
agent and a third of a second of each start.

The other side may be anybody. What it sends is bounded line by line, a size that cannot be meant is
an error, and after any error or an answer that was not read to its end the connection is of no use:
:meth:`Connection.abort` it. Redirects, cookies, proxies and compression are not followed, sent,
asked or undone.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping

_LINE_MAX = 16 * 1024
_HEAD_MAX = 64 * 1024
"""Bytes of a status line with all headers, and of all trailers."""
_PIECE = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CONTINUE, _SWITCHING, _NO_CONTENT, _NOT_MODIFIED = 100, 101, 204, 304


class NoHttpError(ValueError):
    """What the other side sends is no answer of HTTP/1.1."""


class CutOffError(ConnectionError):
    """The other side has ended the connection; ``late``: amid an answer."""

    def __init__(self, *, late: bool) -> None:
        super().__init__("the answer ends too soon" if late else "the connection broke")
        self.late = late


class Answer:
    """A status with its headers (names in small letters), and a body that is still to be read."""

    def __init__(
        self, reader: asyncio.StreamReader, status: int, headers: Mapping[str, str], *, lasts: bool
    ) -> None:
        """``lasts``: the connection can be used again once the body is read."""
        self.status = status
        self.headers = headers
        self._reader = reader
        self._size = _size(status, headers)
        self._lasts = lasts and self._size != "until it is closed"
        self._read = False

    @property
    def reusable(self) -> bool:
        """Whether all was read, and another request may follow."""
        return self._read and self._lasts

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes. Raises :class:`CutOffError` and :class:`NoHttpError`."""
        if self._size == "chunked":
            while size := _chunk_size(await _line(self._reader, late=True)):
                async for piece in self._exactly(size):
                    yield piece
                if await _line(self._reader, late=True):
                    raise NoHttpError("a chunk is longer than it says")
            await _fields(self._reader, late=True)
        elif isinstance(self._size, int):
            async for piece in self._exactly(self._size):
                yield piece
        else:
            while piece := await self._reader.read(_PIECE):
                yield piece
        self._read = True

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([piece async for piece in self.pieces()])

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

    async def _exactly(self, size: int) -> AsyncIterator[bytes]:
        while size:
            piece = await self._reader.read(min(size, _PIECE))
            if not piece:
                raise CutOffError(late=True)
            size -= len(piece)
            yield piece


class Connection:
    """A connection that was made, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def is_open(self) -> bool:
        """Whether nothing shows yet that the other side has ended it, or speaks unasked."""
        return not (self.reader.at_eof() or self.writer.is_closing())

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """Send a request, and read the answer up to its body.

        Raises :class:`CutOffError`, :class:`NoHttpError` and OSError.
        """
        fields = dict(headers)
        if body is not None:
            fields["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        if any(c in line for line in lines for c in "\r\n\0"):
            raise ValueError("a request must not hold line ends")
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + (body or b""))
        await self.writer.drain()
        while True:
            version, status = await self._status()
            found = await _fields(self.reader, late=False)
            if status == _SWITCHING or status >= _CONTINUE * 2:
                break
        closes = "close" in found.get("connection", "").lower()
        return Answer(self.reader, status, found, lasts=version == 1 and not closes)

    async def _status(self) -> tuple[int, int]:
        said = _STATUS.fullmatch(await _line(self.reader, late=False))
        if said is None:
            raise NoHttpError("there is no status")
        return int(said[1]), int(said[2])

    def abort(self) -> None:
        """End it at once, whatever is on its way."""
        self.writer.transport.abort()


async def _line(reader: asyncio.StreamReader, *, late: bool) -> bytes:
    """Without its end."""
    try:
        line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError:
        raise CutOffError(late=late) from None
    except asyncio.LimitOverrunError:
        raise NoHttpError("a line is too long") from None
    if len(line) > _LINE_MAX:
        raise NoHttpError("a line is too long")
    return line.removesuffix(b"\n").removesuffix(b"\r")


async def _fields(reader: asyncio.StreamReader, *, late: bool) -> dict[str, str]:
    """Headers or trailers up to the empty line; those of one name are put together."""
    found: dict[str, str] = {}
    size = 0
    while line := await _line(reader, late=late):
        size += len(line)
        field = _FIELD.fullmatch(line)
        if field is None or size > _HEAD_MAX:
            raise NoHttpError("the headers are none")
        name, value = field[1].decode().lower(), field[2].decode(errors="replace")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _size(status: int, headers: Mapping[str, str]) -> int | str:
    """Of the body: so many bytes, ``chunked`` or ``until it is closed``."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if status in {_SWITCHING, _NO_CONTENT, _NOT_MODIFIED}:
        return 0
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise NoHttpError("the length of the answer is unclear")
        return "chunked"
    if length is None:
        return "until it is closed"
    if not _LENGTH.fullmatch(length):
        raise NoHttpError("the length of the answer is no number")
    return int(length)


def _chunk_size(line: bytes) -> int:
    said = _SIZE.fullmatch(line)
    if said is None:
        raise NoHttpError("the size of a chunk is no number")
    return int(said[1], 16)
