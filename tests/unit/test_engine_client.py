"""The engine's client before sockets that are silent, lie, or are another engine than before."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from agent.adapters.engine import images, listing_now
from agent.adapters.engine.client import Client
from agent.adapters.engine.docker_config import DockerConfig
from agent.adapters.engine.engine import Engine
from agent.domain.errors import PermanentError, TransientError, UnreachableError

Says = Callable[[str], bytes]
"""What it says to a request of that first line; nothing: it is silent from then on."""
IMAGE = "registry.example/app:1"


def answer(status: int, body: bytes = b"", *more: str) -> bytes:
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*head, "", ""]).encode() + body


def pong(version: str) -> bytes:
    return answer(200, b"OK", f"Api-Version: {version}")


class Liar:
    """A Unix socket where something answers as ``says`` has it. ``heard`` are the requests."""

    def __init__(self, path: Path, says: Says) -> None:
        self.host = f"unix://{path}"
        self.heard: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.says = says
        self._path = path
        self._tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            for task in self._tasks:
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._tasks.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in rest if line)
                self.headers.append(dict(line.split(": ", 1) for line in rest if line))
                await reader.readexactly(int(fields.get("content-length", 0)))
                asked = first.removesuffix(" HTTP/1.1")
                self.heard.append(asked)
                said = self.says(asked)
                writer.write(said)
                await writer.drain()
                if not said or fields.get("connection") == "close":
                    await reader.read()  # until the other side has had enough
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
def place() -> Iterator[Path]:
    """Short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="engine-") as place:
        yield Path(place)


def asked(place: Path, says: Says, work: Callable[[Engine], Awaitable[Any]]) -> Liar:
    """Who has been asked by ``work``."""
    liar = Liar(place / "s", says)

    async def main() -> None:
        with anyio.fail_after(30):
            async with liar.listening(), Engine(liar.host) as engine:
                await work(engine)

    anyio.run(main)
    return liar


def with_pong(version: str, rest: bytes) -> Says:
    return lambda asked: pong(version) if asked == "GET /_ping" else rest


def test_a_pull_of_which_nothing_is_heard_ends_with_its_time(place: Path) -> None:
    """A registry that takes the connection and is silent: neither is a head of the answer there."""

    async def work(engine: Engine) -> None:
        with pytest.raises(TransientError, match=r"timed out: nothing came for 0\.2 s"):
            await images.pull(
                engine, IMAGE, DockerConfig(place / "none"), lambda _: None, stalled_s=0.2
            )

    asked(place, with_pong("1.41", b""), work)


def test_a_pull_that_stops_amid_its_steps_ends_with_its_time(place: Path) -> None:
    said: list[str] = []
    step = json.dumps({"status": "Pulling"}).encode() + b"\n"

    async def work(engine: Engine) -> None:
        with pytest.raises(TransientError, match=r"timed out: nothing came for 0\.2 s"):
            await images.pull(
                engine, IMAGE, DockerConfig(place / "none"), said.append, stalled_s=0.2
            )

    head = b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"
    asked(place, with_pong("1.41", head + step), work)
    assert said == ["Pulling"]


@pytest.mark.parametrize("status", [301, 302, 307, 404, 500])
def test_only_a_success_counts_as_done(place: Path, status: int) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises((PermanentError, TransientError), match="cannot remove a container: "):
            await engine.remove("x")

    asked(place, with_pong("1.41", answer(status, b"", "Location: /elsewhere")), work)


def test_what_runs_already_is_started(place: Path) -> None:
    asked(place, with_pong("1.41", answer(304)), lambda engine: engine.start("x"))


@pytest.mark.parametrize("said", [answer(200), answer(204), answer(200, b"null"), answer(301)])
def test_no_word_of_a_container_is_not_its_absence(place: Path, said: bytes) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises((PermanentError, TransientError), match="cannot inspect a container: "):
            await engine.inspect("x")
        with pytest.raises((PermanentError, TransientError), match="cannot list the containers: "):
            await engine.containers()

    asked(place, with_pong("1.41", said), work)


@pytest.mark.parametrize(
    ("newest", "used"), [("1.41", "v1.41"), ("1.48", "v1.48"), ("1.53", "v1.48"), ("2.0", "v1.48")]
)
def test_the_engine_is_asked_in_a_version_that_both_know_and_once_for_it(
    place: Path, newest: str, used: str
) -> None:
    async def work(engine: Engine) -> None:
        for _ in range(3):
            assert await engine.containers() == ()

    listing = f"GET /{used}/containers/json?all=1"
    liar = asked(place, with_pong(newest, answer(200, b"[]")), work)
    assert liar.heard == ["GET /_ping", *[listing] * 3]


def test_commands_that_only_look_ask_in_that_version_too(place: Path) -> None:
    async def work(engine: Engine) -> None:
        assert await anyio.to_thread.run_sync(listing_now.list_now, engine.host) == ()

    liar = asked(place, with_pong("1.53", answer(200, b"[]")), work)
    assert liar.heard == ["GET /_ping", "GET /v1.48/containers/json?all=1"]


def test_an_engine_that_was_replaced_is_asked_for_its_version_anew(place: Path) -> None:
    newest = ["1.41", "1.53"]

    def says(asked: str) -> bytes:
        if asked == "GET /_ping":
            return pong(newest[0])
        if newest[0] == "1.53" and asked.startswith("GET /v1.41/"):
            said = "client version 1.41 is too old. Minimum supported API version is 1.44"
            body = json.dumps({"message": said}).encode()
            return answer(400, body, "Content-Type: application/json")
        return answer(200, b"[]")

    async def work(engine: Engine) -> None:
        assert await engine.containers() == ()
        del newest[0]
        with pytest.raises(TransientError, match="too old"):
            await engine.containers()
        assert await engine.containers() == ()

    liar = asked(place, says, work)
    assert liar.heard[-1] == "GET /v1.48/containers/json?all=1"


def test_what_names_no_version_is_no_engine(place: Path) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(UnreachableError, match="does not say which version"):
            await engine.containers()

    asked(place, lambda _: answer(200, b"[]"), work)


def test_an_error_is_bounded(place: Path) -> None:
    async def work(engine: Engine) -> None:
        with pytest.raises(UnreachableError, match="too long"):
            await engine.containers()

    asked(place, with_pong("1.41", answer(500, b"x" * (2 * 1024 * 1024))), work)


def test_what_a_helper_says_is_bounded(place: Path) -> None:
    frame = struct.pack(">BxxxL", 1, 60) + b"x" * 60
    raw = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n"

    async def work(engine: Engine) -> None:
        client = Client(engine.host.removeprefix("unix://"))
        async with client.attached("x") as streams:
            with pytest.raises(ValueError, match="too much"):
                await streams.output(100)

    asked(place, with_pong("1.41", raw + frame * 2), work)


@pytest.mark.parametrize(
    ("reference", "server"),
    [("nginx:1", "https://index.docker.io/v1/"), (IMAGE, "registry.example")],
)
def test_a_login_names_its_server_as_docker_does(place: Path, reference: str, server: str) -> None:
    auth = base64.b64encode(b"ada:secret").decode()
    config = place / "config.json"
    config.write_text(json.dumps({"auths": {server: {"auth": auth}}}))

    async def work(engine: Engine) -> None:
        await images.pull(engine, reference, DockerConfig(config), lambda _: None)

    liar = asked(place, with_pong("1.41", answer(200, b"{}\n")), work)
    said = json.loads(base64.urlsafe_b64decode(liar.headers[-1]["X-Registry-Auth"]))
    assert said == {"serveraddress": server, "username": "ada", "password": "secret"}
