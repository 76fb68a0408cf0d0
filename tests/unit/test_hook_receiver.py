"""Webhooks: who is signed wakes the agent, and nobody else gets anything from it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import hmac
import logging
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import anyio
import pytest

from agent.adapters.lru import Lru
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.outside.running import Running
from agent.control.outside.trouble import Trouble
from agent.control.status.standing import Standings
from agent.domain.config import Config, Remote
from agent.domain.outside_config import Hooks
from agent.surface.api import connections
from agent.surface.hooks import receiver, serving

SECRET = "0123456789abcdef0123"
BODY = b'{"ref": "refs/heads/main"}'


def signed(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def gitea(body: bytes, secret: str = SECRET) -> dict[str, str]:
    """As Gitea and Forgejo sign."""
    return {"X-Gitea-Signature": signed(body, secret), "X-Gitea-Event": "push"}


def github(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Hub-Signature-256": f"sha256={signed(body, secret)}", "X-GitHub-Event": "push"}


class Receiver:
    """The listener of an agent that counts how often it is woken."""

    def __init__(self, place: Path) -> None:
        self.woken = 0
        self.trouble = Trouble()
        self.place = place
        self.secret = place / "secret"
        self.secret.touch(mode=0o600)
        self.secret.write_text(f"{SECRET}\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.hooks = Hooks(
            listen=f"127.0.0.1:{self.port}",
            gitea_secret_file=self.secret,
            github_secret_file=self.secret,
        )

    def wake(self) -> None:
        self.woken += 1

    def run(self, work: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
        remote = Remote(name="gitea", url="file:///nowhere")

        async def main() -> None:
            journal = AsyncJournal(Journal(self.place / "journal.db"))
            running = Running(
                standings=Standings(),
                config=Config(host="media", remotes=(remote,), hooks=self.hooks),
                journal=journal,
                words=Lru(1),
                alive=lambda: True,
                ready=lambda: True,
                wake=self.wake,
                trouble=self.trouble,
            )
            with anyio.fail_after(120):
                async with (
                    serving.serving(running),
                    aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as client,
                ):
                    await work(client)
            journal.close()

        anyio.run(main)


@pytest.fixture
def agent(tmp_path: Path) -> Receiver:
    return Receiver(tmp_path)


async def _post(
    client: aiohttp.ClientSession, path: str, headers: dict[str, str], body: bytes = BODY
) -> int:
    async with client.post(path, data=body, headers=headers) as answer:
        return answer.status


@pytest.mark.parametrize(
    ("path", "headers"), [("/hooks/gitea", gitea(BODY)), ("/hooks/github", github(BODY))]
)
def test_a_signed_hook_wakes_the_agent_and_is_told_nothing(
    agent: Receiver, path: str, headers: dict[str, str]
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        async with client.post(path, data=BODY, headers=headers) as answer:
            assert (answer.status, await answer.read()) == (204, b"")

    agent.run(work)
    assert agent.woken == 1


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/hooks/gitea", {}, 401),
        ("/hooks/github", {}, 401),
        ("/hooks/gitea", gitea(BODY, "another secret of theirs"), 401),
        ("/hooks/github", github(BODY, "another secret of theirs"), 401),
        ("/hooks/gitea", gitea(BODY + b" "), 401),
        ("/hooks/gitea", {"X-Gitea-Signature": "é" * 64}, 401),
        ("/hooks/gitea", {"X-Gitea-Signature": signed(BODY).upper()}, 401),
        ("/hooks/gitea", github(BODY), 401),
        ("/hooks/github", gitea(BODY), 401),
        ("/hooks/github", {"X-Hub-Signature": f"sha1={'0' * 40}"}, 401),
        ("/hooks/gitlab", gitea(BODY), 404),
        ("/v1/status", {}, 404),
        ("/", {}, 404),
    ],
)
def test_who_is_not_signed_wakes_nobody(
    agent: Receiver, path: str, headers: dict[str, str], code: int
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        assert await _post(client, path, headers) == code

    agent.run(work)
    assert agent.woken == 0


def test_only_post_is_taken_and_only_from_forges_that_have_a_secret(agent: Receiver) -> None:
    agent.hooks = Hooks(listen=agent.hooks.listen, gitea_secret_file=agent.secret)

    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get("/hooks/gitea") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert await _post(client, "/hooks/github", github(BODY)) == 404

    agent.run(work)


def test_a_body_is_as_long_as_it_says_or_a_megabyte(agent: Receiver) -> None:
    longest, longer = b"x" * receiver.LARGEST, b"x" * (receiver.LARGEST + 1)

    async def in_pieces() -> object:
        for _ in range(20):
            yield b"x" * 100_000

    async def work(client: aiohttp.ClientSession) -> None:
        assert await _post(client, "/hooks/gitea", gitea(longest), longest) == 204
        assert await _post(client, "/hooks/gitea", gitea(longer), longer) == 413
        async with client.post("/hooks/gitea", data=in_pieces(), headers=gitea(b"")) as answer:
            assert answer.status == 413

    agent.run(work)
    assert agent.woken == 1


def test_a_compressed_body_is_hashed_as_it_came(agent: Receiver) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    more = {"Content-Encoding": "gzip"}

    async def work(client: aiohttp.ClientSession) -> None:
        async with client.post("/hooks/gitea", data=bomb, headers=gitea(bomb) | more) as answer:
            assert answer.status == 204

    agent.run(work)


def test_a_storm_of_hooks_wakes_the_agent_twice(
    agent: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "GAP_S", 3600.0)

    async def work(client: aiohttp.ClientSession) -> None:
        for _ in range(10):
            assert await _post(client, "/hooks/gitea", gitea(BODY)) == 204
        assert agent.woken == 1
        hour = receiver.Wake(agent.wake)
        for _ in range(100):
            hour()
        assert agent.woken == 2
        hour._after_gap()  # it is over
        assert agent.woken == 3
        hour._after_gap()
        assert agent.woken == 3
        hour.close()

    agent.run(work)


def test_a_secret_that_was_replaced_counts_from_then_on_and_shows_nowhere(
    agent: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    other = "fedcba98765432100123"

    async def work(client: aiohttp.ClientSession) -> None:
        assert await _post(client, "/hooks/gitea", gitea(BODY, other)) == 401
        agent.secret.write_text(other)
        assert await _post(client, "/hooks/gitea", gitea(BODY, other)) == 204
        agent.secret.unlink()
        async with client.post("/hooks/gitea", data=BODY, headers=gitea(BODY, other)) as answer:
            assert answer.status == 503
            assert str(agent.secret) not in await answer.text()

    agent.run(work)
    assert "hooks.gitea_secret_file: the file cannot be read" in caplog.text
    assert SECRET not in caplog.text
    assert other not in caplog.text


def test_who_does_not_finish_is_closed_and_more_than_some_are_not_taken(
    agent: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "BODY_S", 0.1)
    monkeypatch.setattr(connections, "IDLE_S", 0.5)
    head = f"POST /hooks/gitea HTTP/1.1\r\nHost: x\r\nX-Gitea-Signature: {'0' * 64}\r\n"

    async def work(client: aiohttp.ClientSession) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.write(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
        assert b" 408 " in await reader.readline()
        writer.close()
        opened = []
        for _ in range(500):
            _, writer = await asyncio.open_connection("127.0.0.1", agent.port)
            writer.write(head.encode())
            opened.append(writer)
        for writer in opened:
            writer.close()
        code = 0
        while code != 204:
            try:
                code = await _post(client, "/hooks/gitea", gitea(BODY))
            except aiohttp.ClientError:
                continue

    agent.run(work)


def test_a_port_that_is_taken_stops_nothing(
    agent: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(_client: aiohttp.ClientSession) -> None:
        """Nothing answers."""

    with socket.create_server(("127.0.0.1", agent.port)):
        agent.run(work)
    assert f"there is no place for hooks on {agent.hooks.listen}" in caplog.text
    assert "in use" in agent.trouble.current[f"listen:{agent.hooks.listen}"].error
