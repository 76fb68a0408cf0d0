"""The Engine's API on its local socket, a connection for each call.

One that is kept could have been ended by an engine that restarts, just when a container is to be
stopped; a new one on a Unix socket costs a fifth of a millisecond.
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from agent.adapters.engine import api_version
from agent.adapters.http1 import Answer, Connection, CutOffError

_DONE = {*range(100, 300), 304}
"""304: a container that is to be started runs, or one that is to be stopped does not."""
_REFUSED, _TROUBLE = 400, 503
_OTHER_VERSION = re.compile(r"client version \S+ is too (?:old|new)")
_ERROR_MAX = 1024 * 1024
_OUTPUT_MAX = 256 * 1024 * 1024
"""Of a helper, which has a tmpfs of 64 MB."""
_SWITCHED = {101, 200}
"""What an engine says when a connection carries a container's streams from now on."""
_LINE_MAX = 4 * 1024 * 1024
"""Of an event or a step of a pull: labels can be long."""
_FRAME = struct.Struct(">BxxxL")
_OUT = 1

_Json = Mapping[str, Any]


class EngineError(Exception):
    """The engine's answer is no: ``status`` of HTTP, and what it says."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Client:
    """Asks the engine that listens on the Unix socket ``path``.

    Raises :class:`EngineError`, OSError while no engine answers, and ValueError for an answer that
    is none. Time is the caller's to bound.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._version: str | None = None

    async def get(self, path: str, /, **params: str) -> Any:
        """What the engine says, read from JSON."""
        found = await self.call("GET", path, None, **params)
        if found is None:
            raise ValueError("the engine's answer is empty")
        return found

    async def post(self, path: str, data: _Json | None = None, /, **params: str) -> Any:
        """Have the engine do something; its answer from JSON, or None if it has none."""
        return await self.call("POST", path, data, **params)

    async def delete(self, path: str, /, **params: str) -> None:
        """Have something removed."""
        await self.call("DELETE", path, None, **params)

    async def call(
        self, method: str, path: str, data: _Json | None = None, /, **params: str
    ) -> Any:
        """One request; the answer from JSON, or None if it has no body."""
        async with self.answer(method, path, params, data=data) as answer:
            body = await answer.body()
        return json.loads(body) if body.strip() else None

    @asynccontextmanager
    async def answer(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        *,
        data: _Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """The answer to one request, its body to be read in the block."""
        target = await self._target(path, params)
        async with self._connection() as connection:
            yield await self._asked(connection, method, target, headers or {}, data)

    @asynccontextmanager
    async def attached(self, container_id: str) -> AsyncIterator[Attached]:
        """A container's standard input and output, while the block runs."""
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        params = dict.fromkeys(("stream", "stdin", "stdout", "stderr"), "1")
        target = await self._target(f"containers/{container_id}/attach", params)
        async with self._connection() as connection:
            answer = await self._asked(connection, "POST", target, upgrade)
            if answer.status not in _SWITCHED:
                raise EngineError(answer.status, "the engine does not hand over the streams")
            yield Attached(connection, answer)

    async def _target(self, path: str, params: Mapping[str, str]) -> str:
        """Under the version of the API that both sides know, which is asked for once."""
        if self._version is None:
            async with self._connection() as connection:
                answer = await _asked(connection, "GET", api_version.ASKED, {})
                self._version = api_version.common(answer.headers.get(api_version.TOLD))
        whole = f"/{self._version}/{path}"
        return f"{whole}?{urlencode(params)}" if params else whole

    async def _asked(
        self,
        connection: Connection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        data: _Json | None = None,
    ) -> Answer:
        try:
            return await _asked(connection, method, target, headers, data)
        except EngineError as err:
            if err.status == _REFUSED and _OTHER_VERSION.match(err.message):
                # Another engine has taken this one's place: its version is asked for next time.
                self._version = None
                raise EngineError(_TROUBLE, err.message) from None
            raise

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = Connection(*await asyncio.open_unix_connection(self._path))
        try:
            yield connection
        finally:
            connection.abort()


class Attached:
    """The streams of a container without a terminal."""

    def __init__(self, connection: Connection, answer: Answer) -> None:
        self._connection = connection
        self._answer = answer

    async def write(self, data: bytes) -> None:
        """Onto its standard input."""
        await self._connection.write(data)

    async def output(self, most: int = _OUTPUT_MAX) -> bytes:
        """Its standard output, once that has ended; ValueError for more than so many bytes."""
        out, left = bytearray(), bytearray()
        async for piece in self._answer.pieces():
            left += piece
            for stream, said in _frames(left):
                if stream == _OUT:
                    out += said
            if len(out) + len(left) > most:
                raise ValueError("a container says too much")
        if left:
            raise CutOffError(late=True)
        return bytes(out)


async def objects(answer: Answer) -> AsyncIterator[Any]:
    """What a stream of JSON says, one object a line, as it comes."""
    async for line in answer.lines(_LINE_MAX):
        if line.strip():
            yield json.loads(line)


def unframed(log: bytes) -> bytes:
    """What a container without a terminal has said on both streams, in turn."""
    return b"".join(said for _, said in _frames(bytearray(log)))


def _frames(log: bytearray) -> Iterator[tuple[int, bytes]]:
    """The whole ones, taken off ``log``: of which stream, and what was said."""
    while len(log) >= _FRAME.size:
        stream, size = _FRAME.unpack_from(log)
        if len(log) < _FRAME.size + size:
            return
        yield stream, bytes(log[_FRAME.size : _FRAME.size + size])
        del log[: _FRAME.size + size]


async def _asked(
    connection: Connection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    data: _Json | None = None,
) -> Answer:
    fields = {
        "Host": "localhost",
        "User-Agent": "commitd",
        "Content-Type": "application/json",
        "Connection": "close",
    }
    body = b"" if method == "POST" else None
    if data is not None:
        body = json.dumps(data).encode()
    answer = await connection.ask(method, target, fields | dict(headers), body)
    if answer.status not in _DONE:
        said = await answer.body(_ERROR_MAX)
        message = _message(said, answer.headers.get("content-type", ""))
        raise EngineError(answer.status, message or f"the engine answers {answer.status}")
    return answer


def _message(said: bytes, kind: str) -> str:
    text = said.decode(errors="replace")
    if kind.partition(";")[0].strip() != "application/json":
        return text.strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()
