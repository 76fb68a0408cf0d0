"""HTTP/1.1 as the agent's client reads it: all of an answer, and nothing that is none."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

from agent.adapters.http1 import Answer, Connection, CutOffError, NoHttpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def _peer(said: bytes, work: Callable[[Connection], Awaitable[None]]) -> bytes:
    """A server that says this to whoever asks it, and hangs up; what it was asked."""
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n")
        writer.write(said)

    await _served(serve, work)
    return heard


async def _served(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    work: Callable[[Connection], Awaitable[None]],
) -> None:
    over = anyio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError):
                await serve(reader, writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        finally:
            over.set()

    server = await asyncio.start_server(once, "127.0.0.1", 0)
    with anyio.fail_after(20):
        connection = Connection(
            *await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        )
        try:
            await work(connection)
        finally:
            connection.abort()
            await over.wait()
            server.close()
            await server.wait_closed()


def answered(said: bytes) -> tuple[Answer, bytes]:
    found: list[tuple[Answer, bytes]] = []

    async def work(connection: Connection) -> None:
        answer = await connection.ask("GET", "/x", {"Host": "x"})
        found.append((answer, await answer.body()))

    anyio.run(_peer, said, work)
    return found[0]


@pytest.mark.parametrize(
    ("said", "body", "reusable"),
    [
        (HEAD + b"Content-Length: 3\r\n\r\nabc", b"abc", True),
        (HEAD + b"content-length:3\r\nConnection: close\r\n\r\nabc", b"abc", False),
        (HEAD + b"\r\nabc", b"abc", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", False),
        (CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", b"abcde", True),
        (CHUNKED + b"0\r\nX-Trailer: 1\r\n\r\n", b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 200\nContent-Length: 1\n\na", b"a", True),
        (HEAD + b"X: folded\r\n in two\r\nContent-Length: 1, 1\r\n\r\na", b"a", True),
        (HEAD + b"Content-Length: 1\r\n\r\na" + HEAD, b"a", False),
    ],
)
def test_a_body_ends_where_its_answer_says(said: bytes, body: bytes, reusable: bool) -> None:
    answer, found = answered(said)
    assert found == body
    assert answer.reusable == reusable


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Upgrade\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 0x3\r\n\r\nabc",
        HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"no colon\r\n\r\n",
        HEAD + b" folded: 1\r\n\r\n",
        HEAD + b"X: " + b"x" * 20_000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 20_000 + b"\r\n",
        CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
        CHUNKED + b"f" * 21 + b"\r\nabc",
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        CHUNKED + b"1;" + b"x" * 100_000 + b"\r\n",
    ],
)
def test_what_is_no_answer_is_an_error(said: bytes) -> None:
    with pytest.raises(NoHttpError):
        answered(said)


@pytest.mark.parametrize(
    ("said", "late"),
    [
        (b"", False),
        (b"HTTP/1.1 200", False),
        (HEAD + b"Content-Length: 3\r\n", False),
        (HEAD + b"Content-Length: 3\r\n\r\nab", True),
        (CHUNKED + b"3\r\nab", True),
        (CHUNKED + b"f" * 16 + b"\r\nabc", True),
        (CHUNKED + b"3\r\nabc\r\n", True),
        (CHUNKED + b"0\r\n", True),
    ],
)
def test_an_answer_that_is_cut_off_is_never_taken_for_whole(said: bytes, late: bool) -> None:
    with pytest.raises(CutOffError) as cut:
        answered(said)
    assert cut.value.late == late


def test_no_header_can_be_smuggled_into_a_request() -> None:
    async def work(connection: Connection) -> None:
        for target, value in (
            ("/x\r\nA: b", "x"),
            ("/x", "x\r\nA: b"),
            ("/x", "x\0"),
            ("/x", "x\u20ac"),
        ):
            with pytest.raises(ValueError, match="line ends"):
                await connection.ask("GET", target, {"Host": "x", "Authorization": value})
        await connection.ask("POST", "/x", {"Host": "x"}, b"")

    heard = anyio.run(_peer, HEAD + b"Content-Length: 0\r\n\r\n", work)
    assert heard == b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


def test_lines_are_told_as_they_come_and_bounded() -> None:
    async def work(connection: Connection) -> None:
        answer = await connection.ask("GET", "/x", {"Host": "x"})
        assert [line async for line in answer.lines(10)] == [b"ab", b"", b"cd", b"e"]

    anyio.run(_peer, CHUNKED + b"2\r\nab\r\n3\r\n\n\nc\r\n3\r\nd\ne\r\n0\r\n\r\n", work)

    async def flood(connection: Connection) -> None:
        answer = await connection.ask("GET", "/x", {"Host": "x"})
        with pytest.raises(NoHttpError):
            assert [line async for line in answer.lines(10)]

    anyio.run(_peer, HEAD + b"\r\n" + b"x" * 100, flood)


def test_what_is_not_http_is_told_before_it_ends() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await reader.read()

    async def work(connection: Connection) -> None:
        with pytest.raises(NoHttpError):
            await connection.ask("GET", "/x", {"Host": "x"})

    anyio.run(_served, serve, work)


def test_a_piece_is_told_while_the_next_is_still_to_come() -> None:
    async def main() -> None:
        heard = anyio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(CHUNKED + b"3\r\nab\n\r\n5\r\nc")
            await heard.wait()
            writer.write(b"d\nef\r\n0\r\n\r\n")

        async def work(connection: Connection) -> None:
            lines = (await connection.ask("GET", "/x", {"Host": "x"})).lines(10)
            assert await anext(lines) == b"ab"
            heard.set()
            assert [line async for line in lines] == [b"cd", b"ef"]

        await _served(serve, work)

    anyio.run(main)


def test_a_connection_serves_one_request_after_the_other() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in (b"1", b"2"):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"Content-Length: 1\r\n\r\n" + number)

    async def work(connection: Connection) -> None:
        for number in (b"1", b"2"):
            answer = await connection.ask("GET", "/x", {"Host": "x"})
            assert not answer.reusable
            assert await answer.body() == number
            assert answer.reusable

    anyio.run(_served, serve, work)


@pytest.mark.parametrize("unasked", [b"HTTP/1.1 408 Request Timeout\r\n\r\n", b"x", b""])
@pytest.mark.parametrize("ends", [True, False])
def test_a_connection_on_which_something_comes_unasked_is_of_no_use(
    unasked: bytes, ends: bool
) -> None:
    async def main() -> None:
        seen = anyio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HEAD + b"Content-Length: 1\r\n\r\n1")
            await seen.wait()
            writer.write(unasked)
            if not ends and unasked:
                await reader.read()
            writer.close()

        async def work(connection: Connection) -> None:
            assert await (await connection.ask("GET", "/x", {"Host": "x"})).body() == b"1"
            for _ in range(3):
                assert await connection.is_idle()
            seen.set()
            while await connection.is_idle():
                pass

        await _served(serve, work)

    anyio.run(main)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        HEAD + b"Content-Type: application/vnd.docker.raw-stream\r\n\r\n",
    ],
)
def test_after_a_switch_everything_is_handed_over(head: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"HTTP/1.1 first")
        writer.write(await reader.readuntil(b"\n"))

    async def work(connection: Connection) -> None:
        upgrade = {"Host": "x", "Connection": "Upgrade", "Upgrade": "tcp"}
        answer = await connection.ask("POST", "/x", upgrade, b"")
        await connection.write(b", second\n")
        assert await answer.body() == b"HTTP/1.1 first, second\n"
        assert not answer.reusable

    anyio.run(_served, serve, work)
