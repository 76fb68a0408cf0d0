"""Warm probes against peers that lie, dawdle or flood: each ask ends in time with a clear reason.

The peers are real sockets that say the wrong things; they need no sandbox.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import anyio
import asyncssh
import pytest

from agent.adapters.probes.base import Probe
from agent.adapters.probes.connect import probe
from agent.domain.errors import BusyError, UnreachableError
from agent.domain.source import git_protocol
from agent.domain.source.decide import Answer
from agent.domain.source.git_protocol import RefAnswer
from tests.system.probing import hurried, refused, remote_of, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    Process = Callable[[asyncssh.SSHServerProcess[bytes]], Awaitable[None]]

A = "a" * 40
TOKEN = "correct-horse-battery"
ADVERTISEMENT = "Content-Type: application/x-git-upload-pack-advertisement\r\n"
RESULT = "Content-Type: application/x-git-upload-pack-result\r\n"


def line(text: str) -> bytes:
    data = text.encode()
    return b"%04x%s" % (len(data) + 4, data)


SERVICE = line("# service=git-upload-pack\n") + b"0000"
FIRST = line(f"{A} refs/heads/main\0 x=y\n")
V0 = SERVICE + FIRST + b"0000"
V2 = line("version 2\n") + line("ls-refs\n") + b"0000"
FOUND = line(f"{A} refs/heads/main\n") + b"0000"
ENDLESS = line(f"{A} refs/heads/x\n") * 100


def reply(status: str, headers: str = "", body: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


@asynccontextmanager
async def peer(speak: Speak) -> AsyncIterator[int]:
    """A server that deals with each connection by `speak`; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            await speak(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await anyio.sleep(0.05)


async def hear(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """One request: its head and its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    _, _, rest = head.partition("Content-Length: ")
    return head, await reader.readexactly(int(rest.partition("\r\n")[0])) if rest else b""


def says(*replies: bytes) -> Speak:
    """A server that gives these replies in turn on one connection, and hangs up."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for each in replies:
            await hear(reader)
            writer.write(each)
            await writer.drain()

    return speak


def http_probe(port: int, tmp_path: Path) -> Probe:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    settings = {"name": "liar", "url": f"http://127.0.0.1:{port}/x.git", "plain_http": True}
    return probe(remote_of(settings, token_file=str(token)), "main")


def http_refusal(speak: Speak, tmp_path: Path) -> UnreachableError:
    """The error of one ask of such a server; it comes in time and shows no secret."""

    async def main() -> UnreachableError:
        async with peer(speak) as port:
            asked = http_probe(port, tmp_path)
            with within(40):
                error = await refused(asked)
            await asked.aclose()
            return error

    error = anyio.run(main)
    shown = f"{error} {error!r} {vars(error)}"
    assert TOKEN not in shown
    assert base64.b64encode(f"git:{TOKEN}".encode()).decode() not in shown
    assert str(error).startswith("liar: ")
    assert len(str(error)) < 500
    assert str(error).isprintable()
    return error


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (reply("403 Forbidden"), "403: reading this repository is forbidden"),
        (reply("404 Not Found"), "404: there is no such repository"),
        (reply("500 Oops"), "500: the server has failed"),
        (reply("502 Bad Gateway"), "502: the server has failed"),
        (reply("418 Teapot"), "418: the server does not answer"),
        (reply("204 No Content"), "204: the server does not answer"),
        (reply("301 Moved", f"Location: https://git:{TOKEN}@example.org/y\r\n"), "example.org"),
        (reply("302 Found", "Location: /y\r\n"), "302: the server sends us elsewhere"),
        (reply("302 Found", "Location: http://[x/y\r\n"), "302: the server sends us elsewhere"),
        (reply("200 OK", "Content-Type: text/html\r\n", b"<html>"), "not a Git server"),
        (reply("200 OK", "Content-Type: text/plain\r\n", V0), "not a Git server"),
        (reply("200 OK", f"{ADVERTISEMENT}Content-Encoding: gzip\r\n", V0), "compressed"),
        (reply("200 OK", ADVERTISEMENT, V0[:-4]), "ends too soon"),
        (reply("200 OK", ADVERTISEMENT), "ends too soon"),
        (reply("200 OK", ADVERTISEMENT, V0)[:-10], "ends too soon"),
        (reply("200 OK", ADVERTISEMENT, V0 + b"0000"), "more than it was asked"),
        (reply("200 OK", ADVERTISEMENT, V2 + b"0000"), "more than it was asked"),
        (reply("200 OK", ADVERTISEMENT, b"000aERR no"), "the server says: no"),
        (reply("200 OK", ADVERTISEMENT, b"zzzz"), "not one of a Git server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "does not speak HTTP"),
        (b"", "the connection broke"),
        (b"HTTP/1.1 200", "the connection broke"),
    ],
)
def test_a_wrong_answer_over_http_is_refused(said: bytes, reason: str, tmp_path: Path) -> None:
    assert reason in str(http_refusal(says(said), tmp_path))


def test_a_wrong_second_answer_over_http_is_refused(tmp_path: Path) -> None:
    first = reply("200 OK", ADVERTISEMENT, V2)
    for second, reason in (
        (reply("200 OK", ADVERTISEMENT, b"0000"), "not a Git server"),
        (reply("200 OK", RESULT, b"0001"), "malformed"),
        (reply("200 OK", RESULT, b"00"), "ends too soon"),
        (reply("500 Oops"), "500"),
    ):
        assert reason in str(http_refusal(says(first, second), tmp_path))


def test_a_token_that_is_said_back_is_not_shown(tmp_path: Path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await hear(reader)
        basic = head.partition("Authorization: Basic ")[2].partition("\r\n")[0]
        text = f"ERR \x1b[31m{basic} {base64.b64decode(basic).decode()}".encode()
        writer.write(reply("200 OK", ADVERTISEMENT, b"%04x%s" % (len(text) + 4, text)))
        await writer.drain()

    assert "the server says: [31m[redacted] git:[redacted]" in str(http_refusal(echo, tmp_path))


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        ("429 Too Many Requests", "Retry-After: 7\r\n", 7),
        ("429 Too Many Requests", "Retry-After: 99999999999999999999\r\n", 3600),
        ("429 Too Many Requests", "Retry-After: -7\r\n", None),
        ("429 Too Many Requests", "Retry-After: soon\r\n", None),
        ("503 Service Unavailable", "", None),
        ("503 Service Unavailable", "Retry-After: 120\r\n", 120),
        ("503 Service Unavailable", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 0),
    ],
)
def test_a_busy_server_says_how_long(
    status: str, headers: str, seconds: float | None, tmp_path: Path
) -> None:
    error = http_refusal(says(reply(status, headers)), tmp_path)
    assert isinstance(error, BusyError)
    assert error.retry_after_s == seconds


def test_a_busy_server_may_name_a_moment(tmp_path: Path) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = http_refusal(says(reply("429 Slow Down", f"Retry-After: {moment}\r\n")), tmp_path)
    assert isinstance(error, BusyError)
    assert error.retry_after_s is not None
    assert 50 < error.retry_after_s <= 60


async def _silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def _half_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await hear(reader)
    writer.write_eof()
    await asyncio.sleep(60)


def _flood(head: bytes, more: bytes, pause_s: float = 0) -> Speak:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hear(reader)
        writer.write(head)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return speak


LATE = "no answer within 1 s"
OK = f"HTTP/1.1 200 OK\r\n{ADVERTISEMENT}".encode()
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


@pytest.mark.parametrize(
    ("speak", "reason"),
    [
        (_silence, LATE),
        (_half_close, "the connection broke"),
        (_flood(CHUNKED, chunk(b"0" * 8192)), "malformed"),
        (_flood(CHUNKED + chunk(SERVICE + FIRST), chunk(ENDLESS)), "longer than 1,048,576 bytes"),
        (_flood(CHUNKED, chunk(b"0"), 0.6), LATE),
        (_flood(OK, b"X-Y: z\r\n"), "does not speak HTTP"),
        (_flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), LATE),
        (_flood(b"HTTP/1.1 200 OK\r\nX: ", b"y", 0.3), LATE),
    ],
    ids=["silence", "half-close", "zeros", "endless", "drip", "headers", "100", "drip-status"],
)
def test_an_endless_answer_over_http_ends(speak: Speak, reason: str, tmp_path: Path) -> None:
    with hurried(ask_s=1) if reason == LATE else nullcontext():
        assert reason in str(http_refusal(speak, tmp_path))


def test_a_kept_connection_that_dies_is_replaced_within_the_ask(tmp_path: Path) -> None:
    first = reply("200 OK", ADVERTISEMENT, V2)
    second = reply("200 OK", RESULT, FOUND)
    count = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await says(first, second)(reader, writer)
        await hear(reader)  # and hangs up on the next request

    async def main() -> None:
        async with peer(speak) as port:
            asked = http_probe(port, tmp_path)
            for number in range(1, 4):
                assert await asked.ask() == RefAnswer(Answer.HEAD, A)
                assert count == number
            await asked.aclose()

    anyio.run(main)


# --- ssh ------------------------------------------------------------------------------------------


def ssh_settings(port: int, tmp_path: Path, host_key: asyncssh.SSHKey) -> dict[str, str]:
    public = host_key.export_public_key().decode()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    return {
        "name": "liar",
        "url": f"ssh://git@127.0.0.1:{port}/x.git",
        "ssh_key": str(tmp_path / "key"),
        "known_hosts": str(tmp_path / "known_hosts"),
    }


@asynccontextmanager
async def ssh_peer(tmp_path: Path, process: Process) -> AsyncIterator[Probe]:
    """A probe of a server that runs `process` for every command."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(tmp_path / "key"))
    key.write_public_key(str(tmp_path / "key.pub"))
    host_key = asyncssh.generate_private_key("ssh-ed25519")

    async def run(each: asyncssh.SSHServerProcess[bytes]) -> None:
        with contextlib.suppress(asyncssh.Error, OSError, asyncio.CancelledError):
            await process(each)

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=str(tmp_path / "key.pub"),
        process_factory=run,
        encoding=None,
        line_editor=False,
    )
    asked = probe(remote_of(ssh_settings(server.get_port(), tmp_path, host_key)), "main")
    try:
        yield asked
    finally:
        await asked.aclose()
        server.close()
        await anyio.sleep(0.05)


async def _ssh_zeros(process: asyncssh.SSHServerProcess[bytes]) -> None:
    while True:
        process.stdout.write(b"0000" * 2000)
        await process.stdout.drain()


async def _ssh_lines(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(FIRST)
    while True:
        process.stdout.write(ENDLESS)
        await process.stdout.drain()


async def _ssh_complaints(process: asyncssh.SSHServerProcess[bytes]) -> None:
    for _ in range(200):
        process.stderr.write(b"\x1b[2J no \r\n" * 100)
        await process.stderr.drain()
    process.exit(1)


async def _ssh_drip(process: asyncssh.SSHServerProcess[bytes]) -> None:
    for byte in V2:
        process.stdout.write(bytes([byte]))
        await asyncio.sleep(1)


async def _ssh_silence(_: asyncssh.SSHServerProcess[bytes]) -> None:
    await asyncio.sleep(60)


async def _ssh_half_close(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(V2)
    process.stdout.write_eof()
    await asyncio.sleep(60)


async def _ssh_error(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.stdout.write(b"000eERR go\x1b[1m")
    await asyncio.sleep(60)


async def _ssh_hangs_up(process: asyncssh.SSHServerProcess[bytes]) -> None:
    process.channel.get_connection().abort()


@pytest.mark.parametrize(
    ("process", "reason"),
    [
        (_ssh_zeros, "more than it was asked"),
        (_ssh_lines, "longer than 1,048,576 bytes"),
        (_ssh_complaints, "the server says: [2J no [2J no"),
        (_ssh_drip, LATE),
        (_ssh_silence, LATE),
        (_ssh_half_close, "ends too soon"),
        (_ssh_error, "the server says: go [1m"),
        (_ssh_hangs_up, "the connection broke"),
    ],
)
def test_a_wrong_answer_over_ssh_is_refused(
    process: Process,
    reason: str,
    tmp_path: Path,
) -> None:
    async def main() -> UnreachableError:
        async with ssh_peer(tmp_path, process) as asked:
            with within(40):
                return await refused(asked)

    with hurried(ask_s=1) if reason == LATE else nullcontext():
        error = anyio.run(main)
    assert reason in str(error)
    assert len(str(error)) < 500
    assert str(error).isprintable()


def test_a_channel_that_never_closes_does_not_stay(tmp_path: Path) -> None:
    connections: set[object] = set()

    async def lingers(process: asyncssh.SSHServerProcess[bytes]) -> None:
        connections.add(process.channel.get_connection())
        # Deaf to the client's farewell.
        setattr(process.channel, "process_packet", lambda *_: True)  # noqa: B010
        process.stdout.write(FIRST + b"0000")
        await asyncio.sleep(60)

    async def main() -> None:
        async with ssh_peer(tmp_path, lingers) as asked:
            for number in (1, 2):
                with within(40):
                    assert await asked.ask() == RefAnswer(Answer.HEAD, A)
                assert len(connections) == number

    with hurried(close_s=0.5):
        anyio.run(main)


async def _ssh_banner(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"hello\r\n" * 1000)
        await writer.drain()


async def _ssh_junk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n" + bytes(range(256)) * 400)
    await writer.drain()
    await asyncio.sleep(60)


async def _ssh_huge(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n\x7f\xff\xff\xff")
    while True:
        writer.write(b"\0" * 65536)
        await writer.drain()
        await asyncio.sleep(0.01)


async def _ssh_slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"S")
        await asyncio.sleep(1)


async def _ssh_leaves(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-x\r\n")
    writer.write_eof()
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    "speak", [_silence, _ssh_banner, _ssh_junk, _ssh_huge, _ssh_slow, _ssh_leaves]
)
def test_a_peer_that_does_not_speak_ssh_is_refused_in_time(speak: Speak, tmp_path: Path) -> None:
    async def main() -> UnreachableError:
        async with peer(speak) as port:
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(str(tmp_path / "key"))
            asked = probe(remote_of(ssh_settings(port, tmp_path, key)), "main")
            with within(40):
                error = await refused(asked)
            await asked.aclose()
            return error

    with hurried(connect_s=1):
        error = anyio.run(main)
    assert len(str(error)) < 300
    assert str(error).isprintable()
    assert git_protocol.plain(str(error).encode()) == str(error)
