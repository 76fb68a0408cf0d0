"""Whoever reaches the API and means harm: the agent goes on, and what it holds stays bounded."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.adapters.state.journal import Journal
from agent.domain.outcome import Action, Reason
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet

_TOKEN = "0123456789abcdef0123"
_MOST_GROWTH = 10 * 1024
"""KiB, for each."""
_LONG = "x" * 20_000
_CONNECTIONS = 500

Connect = Callable[[], socket.socket]


def _by_tcp() -> socket.socket:
    return socket.create_connection(("127.0.0.1", 8787), timeout=60)


def _on_socket(host: Host) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(Path(host.config["runtime_dir"], "commitd.sock")))  # waits its turn
    client.settimeout(60)
    return client


def _say(client: socket.socket, text: bytes) -> None:
    with suppress(OSError):  # closed by now
        client.sendall(text)


def _hear(client: socket.socket) -> bytes:
    with suppress(OSError):
        return client.recv(4096)
    return b""


def _deaf_listeners(held: ExitStack, connect: Connect) -> None:
    """They want everything, and read nothing."""
    for _ in range(16):
        client = held.enter_context(connect())
        head = f"GET /v1/events HTTP/1.1\r\nHost: media\r\nAuthorization: Bearer {_TOKEN}\r\n"
        _say(client, f"{head}Last-Event-ID: 0\r\n\r\n".encode())


def _half_questions(held: ExitStack, connect: Connect) -> None:
    for _ in range(_CONNECTIONS):
        _say(held.enter_context(connect()), b"GET /v1/status HTTP/1.1\r\nHost: me")


def _large_bodies(held: ExitStack, connect: Connect) -> None:
    head = (
        "POST /v1/suspend HTTP/1.1\r\nHost: media\r\n"
        f"Authorization: Bearer {_TOKEN}\r\nContent-Length: 10000000\r\n\r\n"
    )
    for _ in range(10):
        client = held.enter_context(connect())
        _say(client, head.encode())
        for _ in range(100):
            _say(client, b"x" * 100_000)


def _large_heads(held: ExitStack, connect: Connect) -> None:
    for _ in range(10):
        client = held.enter_context(connect())
        _say(client, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 10_000_000)


def _wrong_answers(held: ExitStack, connect: Connect) -> None:
    """Wrong tokens and names, again and again."""
    del held
    for number in range(200):
        for head in (
            f"Host: media\r\nAuthorization: Bearer {number}",
            f"Host: evil{number}.example",
        ):
            with closing(connect()) as client:
                _say(client, f"GET /v1/status HTTP/1.1\r\n{head}\r\n\r\n".encode())
                _hear(client)


def _metrics_for_everybody(held: ExitStack, connect: Connect) -> None:
    """Many who ask at once, some who read the answers, with types that nobody else wants."""
    head = f"GET /metrics HTTP/1.1\r\nHost: media\r\nAuthorization: Bearer {_TOKEN}\r\n"
    for number in range(_CONNECTIONS):
        accept = f"Accept: text/plain;q=0.{number}\r\n\r\n"
        _say(held.enter_context(connect()), (head + accept).encode())
    for _ in range(200):
        with closing(connect()) as client:
            _say(client, f"{head}Connection: close\r\n\r\n".encode())
            while _hear(client):
                pass


@contextmanager
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _rss(agent: RunningAgent) -> int:
    """KiB."""
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def _answers(host: Host) -> bool:
    try:
        return host.ask("GET /healthz")[0] == 200
    except (OSError, IndexError):
        return False


def test_harm_by_the_api_stays_bounded_and_the_agent_goes_on(fleet: Fleet) -> None:
    host = fleet.synced(
        {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    with closing(Journal(host.state / "journal.db")) as journal:
        for _ in range(500):
            journal._begin(Action.HOLD, "one", Reason.RESUMED, detail=_LONG)
        journal.close_open_actions()
    token = host.root / "api.token"
    token.write_text(_TOKEN)
    token.chmod(0o600)
    host.config |= {"listen": "127.0.0.1:8787", "api": {"token_file": str(token)}}
    host.write_config()
    with host.running() as agent, _many_files(), ExitStack() as held:
        agent.says("in sync with")
        for path in ("v1/status", "v1/history", "v1/why/one", "v1/plan"):  # only loaded then
            assert host.ask(f"GET /{path}")[0] == 200
        before = _rss(agent)
        assert host.ask("GET /metrics")[0] == 200
        assert _rss(agent) - before < _MOST_GROWTH
        before, done = _rss(agent), 0
        for harm in (
            _deaf_listeners, _half_questions, _large_bodies, _large_heads, _wrong_answers,
            _metrics_for_everybody,
        ):  # fmt: skip
            for connect in (_by_tcp, partial(_on_socket, host)):
                harm(held, connect)
                done += 1  # its effect may come a moment later
                assert _rss(agent) - before < _MOST_GROWTH * done, harm.__name__
        fleet.commit("two", {"stacks/one/compose.yaml": fleet.compose(fleet.web)})
        agent.says("two by Ada")
        wait_until(lambda: agent.log.count("in sync with") > 1, what="the commit to be deployed")
        held.close()
        wait_until(lambda: _answers(host), what="the API to have room again")
    assert _TOKEN not in agent.log
    assert "Traceback" not in agent.log
