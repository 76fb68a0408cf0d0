"""Who connects to the API and says nothing takes nothing from the agent for long."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from agent.adapters.host.api_socket import SOCKET
from agent.control.lru import Lru
from agent.control.status import status
from agent.domain.config import Config, Remote
from agent.surface import api, connections

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="api-") as place:
        yield Path(place)


def serve(place: Path, work: Callable[[Path], Awaitable[None]]) -> None:
    remote = Remote(name="gitea", url="file:///nowhere")
    config = Config(host="media", remotes=(remote,), state_dir=place, runtime_dir=place)

    async def main() -> None:
        with anyio.fail_after(20):
            async with api.serving(config, Lru(1)):
                await work(place / SOCKET)

    anyio.run(main)


async def _open(path: Path, said: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(said)
    return reader, writer


async def _is_closed(streams: Streams) -> bool:
    """Once the other side has closed it, whatever it had said before."""
    reader, writer = streams
    try:
        while await reader.read(65536):
            pass
    except ConnectionResetError:
        pass
    writer.close()
    return True


async def _answer(streams: Streams) -> bytes:
    """Its first line; empty when there is none."""
    try:
        return await streams[0].readline()
    except ConnectionResetError:
        return b""


def test_one_too_many_is_closed_at_once_and_the_others_are_answered(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(path: Path) -> None:
        mine = [await _open(path) for _ in range(connections.MOST)]
        for _ in range(3):
            assert await _is_closed(await _open(path))
        mine[0][1].write(ASK)
        assert b" 404 " in await _answer(mine[0])
        for _, writer in mine:
            writer.close()
        answer = b""
        while not answer:  # until they are closed on the other side, too
            again = await _open(path, ASK)
            answer = await _answer(again)
            again[1].close()

    with caplog.at_level(logging.WARNING):
        serve(place, work)
    assert [record.getMessage() for record in caplog.records] == [
        f"{place / SOCKET}: {connections.MOST} connections are open; more are closed"
    ]


@pytest.mark.parametrize("said", [b"", ASK[:-2], ASK])
def test_who_asks_nothing_or_not_to_the_end_or_nothing_more_is_closed(
    place: Path, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.1)

    async def work(path: Path) -> None:
        assert await _is_closed(await _open(path, said))

    serve(place, work)


def test_who_does_not_read_the_answer_is_closed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.1)

    async def work(path: Path) -> None:
        _, writer = await _open(path)
        try:
            while True:
                writer.write(ASK * 1000)
                await writer.drain()
        except ConnectionError:
            writer.close()

    serve(place, work)


def test_an_answer_may_take_longer_than_a_question(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    released = threading.Event()
    monkeypatch.setattr(status, "now", lambda _: {"waited": released.wait(10)})

    async def work(path: Path) -> None:
        asking = await _open(path, ASK.replace(b"nothing", b"v1/status"))
        idle = await _open(path)
        assert await _is_closed(idle)
        released.set()
        assert b" 200 " in await _answer(asking)
        asking[1].close()

    serve(place, work)
