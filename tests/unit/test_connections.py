"""Who connects to the API and says nothing takes nothing from the agent for long."""

from __future__ import annotations

import asyncio
import json
import logging
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from agent.adapters.host.directories import SOCKET
from agent.adapters.lru import Lru
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.outside.running import Running
from agent.control.status import status
from agent.control.status.standing import Standings
from agent.domain.config import Config, Remote
from agent.domain.outcome import Action, Reason
from agent.surface.api import connections, events, serving

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def place() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="api-") as place:
        yield Path(place)


def serve(place: Path, work: Callable[[Path, AsyncJournal], Awaitable[None]]) -> None:
    remote = Remote(name="gitea", url="file:///nowhere")
    config = Config(host="media", remotes=(remote,), state_dir=place, runtime_dir=place)

    async def main() -> None:
        journal = AsyncJournal(Journal(place / "journal.db"))
        running = Running(
            standings=Standings(),
            config=config,
            journal=journal,
            words=Lru(1),
            alive=lambda: True,
            ready=lambda: True,
            wake=lambda: None,
        )
        with anyio.fail_after(20):
            async with serving.serving(running):
                await work(place / SOCKET, journal)
        journal.close()

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
    async def work(path: Path, _journal: AsyncJournal) -> None:
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

    async def work(path: Path, _journal: AsyncJournal) -> None:
        assert await _is_closed(await _open(path, said))

    serve(place, work)


def test_who_does_not_read_the_answer_is_closed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.1)

    async def work(path: Path, _journal: AsyncJournal) -> None:
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
    monkeypatch.setattr(connections, "IDLE_S", 1.0)
    released = threading.Event()
    monkeypatch.setattr(status, "now", lambda *_: {"waited": released.wait(10)})

    async def work(path: Path, _journal: AsyncJournal) -> None:
        asking = await _open(path, ASK.replace(b"nothing", b"v1/status"))
        idle = await _open(path)
        assert await _is_closed(idle)
        released.set()
        assert b" 200 " in await _answer(asking)
        asking[1].close()

    serve(place, work)


def test_who_asks_and_leaves_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(status, "now", lambda *_: {"waited": released.wait(30)})

    async def work(path: Path, _journal: AsyncJournal) -> None:
        before = len(asyncio.all_tasks())
        for _ in range(5 * connections.MOST):
            _, writer = await _open(path, ASK.replace(b"nothing", b"v1/status"))
            await writer.drain()
            await anyio.sleep(0.005)  # it is asked
            writer.close()
            await writer.wait_closed()
        most = 8  # who waits for the engine; the others were dropped with their connections
        while len(asyncio.all_tasks()) - before > most:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        released.set()

    serve(place, work)


def test_where_nothing_can_answer_nobody_is_kept_waiting(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "agent.surface.api.server", None)  # it cannot be loaded

    async def work(path: Path, _journal: AsyncJournal) -> None:
        assert await _is_closed(await _open(path, ASK))
        with pytest.raises(ConnectionRefusedError):
            await _open(path, ASK)

    serve(place, work)
    assert "there is no API on" in caplog.text


# --- streams ---

_LONG = "x" * 100_000
LISTEN = b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"


async def _listen(path: Path, last: str = "") -> Streams:
    """A stream that has begun."""
    more = f"Last-Event-ID: {last}\r\n\r\n".encode() if last else b"\r\n"
    streams = await _open(path, LISTEN[:-2] + more)
    await streams[0].readuntil(b":\n\n")
    return streams


async def _told(streams: Streams) -> list[str]:
    """The next event's number, its kind and what is done."""
    said = (await streams[0].readuntil(b"\n\n")).decode()
    lines = [line for line in said.splitlines() if line.startswith(("id: ", "event: ", "data: "))]
    return [lines[0], lines[1], json.loads(lines[2].removeprefix("data: "))["subject"]]


def test_a_stream_tells_of_each_action_as_it_begins_and_as_it_ends(place: Path) -> None:
    async def work(path: Path, journal: AsyncJournal) -> None:
        async with journal.recording(Action.DEPLOY, "before", Reason.NEW):
            pass
        listening = await _listen(path)
        async with journal.recording(Action.DEPLOY, "web", Reason.NEW):
            assert await _told(listening) == ["id: 3", "event: begin", "web"]
        assert await _told(listening) == ["id: 4", "event: end", "web"]
        again = await _listen(path, last="1")
        told = [await _told(again) for _ in range(3)]
        assert told[0] == ["id: 2", "event: end", "before"]
        assert [each[0] for each in told] == ["id: 2", "id: 3", "id: 4"]
        for streams in (listening, again):
            streams[1].close()

    serve(place, work)


def test_a_stream_of_a_journal_that_was_begun_anew_has_all_of_it(place: Path) -> None:
    async def work(path: Path, journal: AsyncJournal) -> None:
        async with journal.recording(Action.DEPLOY, "web", Reason.NEW):
            pass
        listening = await _listen(path, last="4711")  # of a journal that was set aside
        assert await _told(listening) == ["id: 1", "event: begin", "web"]
        listening[1].close()

    serve(place, work)


def test_a_stream_goes_on_while_nothing_happens(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.1)
    monkeypatch.setattr(events, "BEAT_S", 0.05)

    async def work(path: Path, _journal: AsyncJournal) -> None:
        listening = await _listen(path)
        for _beat in range(10):
            await listening[0].readuntil(b":\n\n")
        listening[1].close()

    serve(place, work)


def test_streams_are_counted_apart_from_those_who_ask(place: Path) -> None:
    async def work(path: Path, _journal: AsyncJournal) -> None:
        streams = [await _listen(path) for _ in range(connections.STREAMS)]
        refused = await _open(path, LISTEN)
        assert b" 503 " in await _answer(refused)
        asking = [await _open(path) for _ in range(connections.MOST - 1)]
        asking[-1][1].write(ASK)
        assert b" 404 " in await _answer(asking[-1])
        streams[0][1].close()
        answer = b" 503 "
        while b" 503 " in answer:  # until it is closed on the other side, too
            again = await _open(path, LISTEN)
            answer = await _answer(again)
            again[1].close()
        for _, writer in (*streams, *asking, refused):
            writer.close()

    serve(place, work)


def test_a_stream_that_nobody_reads_is_cut_off(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "WRITE_S", 0.1)

    async def work(path: Path, journal: AsyncJournal) -> None:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(path))
            deaf.sendall(LISTEN)
            ended = select.poll()
            ended.register(deaf, select.POLLHUP)
            while not ended.poll(0):
                async with journal.recording(Action.DEPLOY, "web", Reason.NEW, detail=_LONG):
                    pass

    serve(place, work)
