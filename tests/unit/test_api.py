"""Who may ask the API, what it refuses, and that it never tells more than that."""

from __future__ import annotations

import logging
import os
import re
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import yaml

from agent.adapters.host import config_file, directories, peer
from agent.adapters.host.peer import Peer as Asking
from agent.adapters.lru import Lru
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.operator import orders
from agent.control.outside.running import Running
from agent.control.outside.trouble import Trouble
from agent.control.status import why
from agent.control.status.standing import Standings
from agent.domain.config import Config, Remote
from agent.domain.errors import ConfigError
from agent.domain.outcome import Action, Reason
from agent.domain.outside.metrics import Observed
from agent.domain.outside_config import Api, Peer
from agent.surface.api import exposition, metrics, serving
from agent.surface.api.access import SocketAccess
from agent.surface.api.application import application
from agent.surface.api.connections import Connections

TOKEN = "t0ken-" + "x" * 32
MEMBER = Asking(1000, frozenset({1000, 70}))
WRITER = Asking(1001, frozenset({1001, 70, 71}))
STRANGER = Asking(1002, frozenset({1002}))
ROOT = Asking(0, frozenset({0}))
READS = [
    "/v1/status", "/v1/history", "/v1/plan", "/v1/why/web", "/healthz", "/readyz", "/metrics",
]  # fmt: skip
ORDERS = {
    "sync": {},
    "suspend": {"stack": "web"},
    "resume": {"host": True},
    "approve": {"sha": "abcd"},
    "undo": {"id": "abcd"},
    "retry": {"stack": "web"},
}


@dataclass
class Agent:
    """One that runs, as far as the API knows."""

    place: Path
    api: Api = field(default_factory=Api)
    listen: str | None = None
    peers: tuple[Peer, ...] = ()
    alive: bool = True
    ready: bool = True
    woken: int = 0
    routes: set[tuple[str, str]] = field(default_factory=set)
    trouble: Trouble = field(default_factory=Trouble)

    def wake(self) -> None:
        self.woken += 1

    def serve(self, work: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
        """Have it asked: on the socket, or by TCP where it listens."""
        remote = Remote(name="gitea", url="file:///nowhere")
        config = Config(
            host="media",
            remotes=(remote,),
            state_dir=self.place,
            runtime_dir=self.place,
            listen=self.listen,
            api=self.api,
            peers=self.peers,
        )
        words: Lru[str, tuple[str, str]] = Lru(4)
        words.put("web", ("2026-01-01", "the password is hunter2"))

        async def main() -> None:
            journal = AsyncJournal(Journal(self.place / "journal.db"))
            running = Running(
                standings=Standings(),
                config=config,
                journal=journal,
                words=words,
                alive=lambda: self.alive,
                ready=lambda: self.ready,
                wake=self.wake,
                trouble=self.trouble,
            )
            async with task_group() as group:
                access = SocketAccess(None, None)
                app = application(running, Connections("nowhere"), access, group)
            self.routes = {
                (route.method, route.resource.canonical)
                for route in app.router.routes()
                if route.resource and route.method != "HEAD"
            }
            path = str(self.place / directories.SOCKET)
            connector = None if self.listen else aiohttp.UnixConnector(path)
            with anyio.fail_after(60):
                async with serving.serving(running):
                    base = f"http://{self.listen or 'host'}"
                    async with aiohttp.ClientSession(base, connector=connector) as client:
                        await work(client)
            journal.close()

        anyio.run(main)


@pytest.fixture
def agent() -> Iterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="api-") as place:  # short enough for a socket
        yield Agent(Path(place))


@pytest.fixture
def on_tcp(agent: Agent) -> Agent:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        agent.listen = f"127.0.0.1:{free.getsockname()[1]}"
    return agent


def _groups(monkeypatch: pytest.MonkeyPatch, asking: Asking) -> None:
    """The group commitd is 70, ops is 71; whoever connects is ``asking``."""
    known = {peer.GROUP: 70, "ops": 71}
    monkeypatch.setattr(peer, "group", known.get)
    monkeypatch.setattr(peer, "askers", lambda: 70)
    monkeypatch.setattr(peer, "peer_of", lambda _: asking)
    monkeypatch.setattr(serving.os, "chown", lambda *_: None)  # type: ignore[attr-defined]
    monkeypatch.setattr("agent.surface.api.access.os.geteuid", lambda: 0)


async def _codes(client: aiohttp.ClientSession, method: str, paths: Any) -> set[int]:
    found = set()
    for path in paths:
        body = ORDERS[path.removeprefix("/v1/")] if method == "POST" else None
        async with client.request(method, path, json=body) as answer:
            await answer.read()
            found.add(answer.status)
    return found


@pytest.mark.parametrize(
    ("asking", "may"),
    [
        (ROOT, {"read", "order", "hear words"}),
        (MEMBER, {"read"}),
        (WRITER, {"read", "order"}),
        (STRANGER, set()),
    ],
)
def test_the_kernel_says_who_asks_and_the_group_what_he_may(
    agent: Agent,
    monkeypatch: pytest.MonkeyPatch,
    asking: Asking,
    may: set[str],
) -> None:
    _groups(monkeypatch, asking)
    agent.api = Api(writers="ops")

    async def work(client: aiohttp.ClientSession) -> None:
        read = await _codes(client, "GET", READS)
        ordered = await _codes(client, "POST", [f"/v1/{name}" for name in ORDERS])
        assert (403 not in read, 403 not in ordered) == ("read" in may, "order" in may)
        async with client.get("/v1/words/web") as answer:
            said = await answer.text()
            assert (answer.status, "hunter2" in said) == (
                (200, True) if "hear words" in may else (403, False)
            )
        async with client.get("/v1/events", headers={"Last-Event-ID": "0"}) as answer:
            assert answer.status == (200 if "read" in may else 403)

    agent.serve(work)


@pytest.mark.parametrize(("asking", "hears"), [(ROOT, True), (WRITER, False), (MEMBER, False)])
def test_why_tells_last_words_to_root_alone(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, asking: Asking, hears: bool
) -> None:
    async def document(_: Config, name: str, words: Callable[[str], Any]) -> dict[str, Any]:
        return {"words": words(name)}

    _groups(monkeypatch, asking)
    monkeypatch.setattr(why, "document", document)

    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get("/v1/why/web") as answer:
            assert ("hunter2" in await answer.text()) is hears

    agent.serve(work)


def test_without_writers_a_member_of_the_group_orders_nothing(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    _groups(monkeypatch, WRITER)

    async def work(client: aiohttp.ClientSession) -> None:
        assert await _codes(client, "POST", [f"/v1/{name}" for name in ORDERS]) == {403}

    agent.serve(work)
    assert agent.woken == 0


def test_the_kernel_knows_who_is_at_the_other_end() -> None:
    import os  # noqa: PLC0415

    one, other = socket.socketpair()
    with one, other:
        found = peer.peer_of(one)
    assert found.user == os.geteuid()
    assert {os.getegid(), *os.getgroups()} <= found.groups


def test_tcp_tells_and_takes_no_orders(on_tcp: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        assert await _codes(client, "GET", ["/v1/history", "/healthz", "/readyz"]) == {200}
        assert await _codes(client, "POST", [f"/v1/{name}" for name in ORDERS]) <= {403, 404, 405}
        async with client.get("/v1/words/web") as answer:
            assert answer.status == 404

    on_tcp.serve(work)
    assert on_tcp.woken == 0


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:9999", 200), ("localhost", 200), ("LocalHost.:80", 200),
        ("media", 200), ("nas.lan", 200), ("evil.example", 421), ("127.0.0.1.evil.example", 421),
        ("", 421), ("[::1]", 421), ("10.0.0.1", 421), ("media.evil.example:8787", 421),
    ],
)  # fmt: skip
def test_by_tcp_the_agent_answers_to_its_own_names_alone(
    on_tcp: Agent, host: str, code: int
) -> None:
    on_tcp.api = Api(hosts=("nas.lan",))

    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get("/v1/history", headers={"Host": host}) as answer:
            assert answer.status == code
            said = await answer.json()
            assert code == 200 or said["kind"] == "http"

    on_tcp.serve(work)


def test_on_all_addresses_it_answers_to_each_of_them(on_tcp: Agent) -> None:
    port = str(on_tcp.listen).rpartition(":")[2]
    on_tcp.listen = f"[::]:{port}"
    found: list[int] = []

    async def work(_: aiohttp.ClientSession) -> None:
        async with aiohttp.ClientSession() as client:
            for host in ("127.0.0.1", "127.0.0.2"):
                headers = {"Host": f"127.0.0.1:{port}"}
                async with client.get(f"http://{host}:{port}/healthz", headers=headers) as answer:
                    found.append(answer.status)

    on_tcp.serve(work)
    assert found == [200, 421]


@pytest.mark.parametrize(
    "shown",
    [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN,
     "Bearer \xfc", f"Bearer {TOKEN} {TOKEN}"],
)  # fmt: skip
def test_where_a_token_is_configured_it_has_to_be_shown(on_tcp: Agent, shown: str | None) -> None:
    file = on_tcp.place / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    on_tcp.api = Api(token_file=file)

    async def work(client: aiohttp.ClientSession) -> None:
        headers = {} if shown is None else {"Authorization": shown}
        for path in (*READS, "/v1/events", "/nothing"):
            async with client.get(path, headers=headers) as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert TOKEN not in await answer.text()
        right = {"Authorization": f"bearer {TOKEN}"}
        async with client.get("/v1/history", headers=right) as answer:
            assert answer.status == 200

    on_tcp.serve(work)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (TOKEN, 0o644, "others may read this secret file"),
        ("short", 0o600, "needs 16 at least"),
        ("", 0o600, "needs 16 at least"),
        (f"{TOKEN}\n{TOKEN}", 0o600, "not one line of ASCII"),
        (None, 0o600, "the file cannot be read"),
    ],
)
def test_a_token_that_is_none_is_an_error_before_anything_listens(
    tmp_path: Path, content: str | None, mode: int, said: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
        file.chmod(mode)
    config = Config(host="media", remotes=(), api=Api(token_file=file), listen="127.0.0.1:1")
    with pytest.raises(ConfigError, match=said) as caught:
        config_file.check_files(config)
    assert TOKEN not in str(caught.value)


def test_a_group_that_is_not_there_is_an_error() -> None:
    config = Config(host="media", remotes=(), api=Api(writers="no-such-group"))
    with pytest.raises(ConfigError, match="there is no group"):
        config_file.check_files(config)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/status?x=1", "no parameter 'x'"),
        ("/v1/history?limit=0", "from 1 to 1000"),
        ("/v1/history?limit=1001", "from 1 to 1000"),
        ("/v1/history?limit=1&limit=2", "more than once"),
        ("/v1/history?action=explode", "is no action"),
        ("/v1/history?since=yesterday", "neither how long ago"),
        ("/v1/history?commit=xyz", "beginning of a commit"),
        ("/v1/history?subject=", "subject is empty"),
        ("/v1/plan?rev=%00", "NUL"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(agent: Agent, path: str, said: str) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get(path) as answer:
            document = await answer.json()
            assert answer.status == 400
            assert said in document["error"]
            assert document["kind"] == "invalid"

    agent.serve(work)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("sync", b"[]"), ("sync", b"{"), ("sync", b'{"x": 1}'), ("suspend", b"{}"),
        ("suspend", b'{"stack": "web", "host": true}'), ("suspend", b'{"stack": 1}'),
        ("suspend", b'{"host": true, "for": "long"}'),
        ("suspend", b'{"host": true, "for": "9999999d"}'),
        ("suspend", b'{"host": true, "reason": "\\ud800"}'), ("resume", b'{"stack": ""}'),
        ("approve", b"{}"), ("undo", b'{"id": "a\\u0000"}'), ("retry", b"{}"),
    ],
)  # fmt: skip
def test_an_order_that_makes_no_sense_changes_nothing(agent: Agent, verb: str, body: bytes) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        async with client.post(f"/v1/{verb}", data=body) as answer:
            assert (answer.status, (await answer.json())["kind"]) == (400, "invalid")

    agent.serve(work)
    assert agent.woken == 0


def test_a_body_is_bounded(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        async with client.post("/v1/retry", data=b" " * 100_000) as answer:
            assert answer.status == 413

    agent.serve(work)


def test_an_order_is_carried_out_logged_with_who_gave_it_and_wakes_the_agent(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    begun = Journal(agent.place / "journal.db")
    begun._begin(Action.DEPLOY, "web", Reason.NEW)
    begun.close()

    async def work(client: aiohttp.ClientSession) -> None:
        body = {"host": True, "for": "2h", "reason": "a new disk"}
        async with client.post("/v1/suspend", json=body) as answer:
            assert answer.status == 200
            assert [each["subject"] for each in (await answer.json())["working"]] == ["web"]
        async with client.post("/v1/resume", json={"host": True}) as answer:
            assert answer.status == 200
        async with client.post("/v1/resume", json={"host": True}) as answer:
            assert (answer.status, (await answer.json())["kind"]) == (409, "invalid")
        async with client.get("/v1/history") as answer:
            [entry, _] = await answer.json()
            assert (entry["action"], entry["reason"]) == (Action.HOLD, Reason.RESUMED)
            assert "uid " in entry["actor"]

    with caplog.at_level(logging.INFO, "commitd"):
        agent.serve(work)
    assert agent.woken == 2
    said = [record.getMessage() for record in caplog.records if "order" in record.getMessage()]
    assert len(said) == 2
    assert re.fullmatch(r"media: a person resumed it; ordered by .*uid \d+\)? \[resumed\]", said[0])
    assert "ordered resume: host True; in vain: media is not suspended" in said[1]


@pytest.mark.parametrize(
    ("said", "actor"),
    [("4321", "uid 4321"), ("x\u00b2", None), ("9" * 11, None), ("-1", None), ("", None)],
)
def test_root_may_order_for_the_user_who_called_sudo(
    agent: Agent, said: str, actor: str | None
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for order in ("suspend", "resume"):
            answer = await client.post(
                f"/v1/{order}", json={"host": True}, headers={"Commitd-Sudo-Uid": said}
            )
            assert answer.status == 200
        async with client.get("/v1/history") as answer:
            [entry] = await answer.json()
            assert entry["actor"] == (actor or peer.named(os.geteuid()))

    agent.serve(work)


def test_an_order_is_carried_out_whole_also_if_who_gave_it_leaves(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    resume = orders.resume

    async def slowly(*words: Any, **more: Any) -> None:
        begun.set()
        assert released.wait(30)
        await resume(*words, **more)

    monkeypatch.setattr(orders, "resume", slowly)
    woken: list[str] = []

    async def work(client: aiohttp.ClientSession) -> None:
        await client.post("/v1/suspend", json={"host": True})
        with anyio.move_on_after(30) as leaving:

            async def leave() -> None:
                while not begun.is_set():  # noqa: ASYNC110  in a worker thread
                    await anyio.sleep(0.01)
                leaving.cancel()

            async with task_group() as group:
                group.start_soon(leave)
                await client.post("/v1/resume", json={"host": True})
        released.set()
        while agent.woken < 2:  # noqa: ASYNC110  by the server
            await anyio.sleep(0.01)
        async with client.get("/v1/history") as answer:
            woken.extend(entry["reason"] for entry in await answer.json())

    agent.serve(work)
    assert woken == [Reason.RESUMED]


def test_a_directory_of_users_that_hangs_holds_up_no_loop(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def named(user: int) -> str:
        asked.append(threading.current_thread() is threading.main_thread())
        return f"uid {user}"

    monkeypatch.setattr(peer, "named", named)

    async def work(client: aiohttp.ClientSession) -> None:
        assert await _codes(client, "GET", ["/v1/status", "/healthz"]) == {200}
        assert not asked
        await client.post("/v1/suspend", json={"host": True})
        _groups(monkeypatch, STRANGER)
        assert await _codes(client, "GET", ["/v1/status"]) == {403}

    agent.serve(work)
    assert asked == [False, False]


def test_health_is_that_of_the_loop_and_readiness_that_of_the_verdict(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        assert await _codes(client, "GET", ["/healthz", "/readyz"]) == {200}
        agent.alive = agent.ready = False
        assert await _codes(client, "GET", ["/healthz", "/readyz"]) == {503}

    agent.serve(work)


def test_metrics_are_made_once_for_all_who_ask_at_a_time(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    write = exposition.written

    def written(seen: Observed, wanted: str) -> tuple[bytes, str]:
        made.append(wanted)
        return write(seen, wanted)

    monkeypatch.setattr(exposition, "written", written)
    monkeypatch.setattr(metrics, "_FRESH_S", 60.0)
    kinds: set[str] = set()

    async def ask(client: aiohttp.ClientSession, accept: str) -> None:
        async with client.get("/metrics", headers={"Accept": accept}) as answer:
            assert answer.status == 200
            kinds.add(answer.headers["Content-Type"])
            ends = (await answer.text()).endswith("# EOF\n")
            assert ends == ("openmetrics" in accept)

    async def work(client: aiohttp.ClientSession) -> None:
        async with anyio.create_task_group() as group:  # noqa: TID251  nothing raises here
            for number in range(10):
                for kind in ("text/plain", "application/openmetrics-text", "image/png"):
                    group.start_soon(ask, client, f"{kind};q=0.{number}")

    agent.serve(work)
    assert sorted(made) == ["application/openmetrics-text", "text/plain"]
    assert len(kinds) == 2


def test_each_path_is_described_and_each_that_is_described_is_there(agent: Agent) -> None:
    async def work(_: aiohttp.ClientSession) -> None:
        pass

    agent.serve(work)
    file = Path(__file__).parents[2] / "docs/reference/openapi.yaml"
    paths = yaml.safe_load(file.read_text())["paths"]
    assert agent.routes == {(how.upper(), path) for path, each in paths.items() for how in each}


def test_where_it_cannot_listen_all_else_works(
    on_tcp: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    assert on_tcp.listen
    host, _, port = on_tcp.listen.partition(":")
    with socket.socket() as taken:
        taken.bind((host, int(port)))
        taken.listen()
        listen, on_tcp.listen = on_tcp.listen, f"{host}:{port}"

        async def work(_: aiohttp.ClientSession) -> None:
            async with (
                aiohttp.ClientSession(
                    "http://host",
                    connector=aiohttp.UnixConnector(str(on_tcp.place / directories.SOCKET)),
                ) as client,
                client.get("/healthz") as answer,
            ):
                assert answer.status == 200

        on_tcp.serve(work)
    assert f"there is no API on {listen}: " in caplog.text


def test_a_token_that_cannot_be_read_is_tried_again_at_the_next_connection(
    on_tcp: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    token = on_tcp.place / "token"
    on_tcp.api = Api(token_file=token)
    name = f"listen:{on_tcp.listen}"

    async def work(client: aiohttp.ClientSession) -> None:
        shown = {"Authorization": f"Bearer {TOKEN}"}
        for _ in range(3):
            with pytest.raises(aiohttp.ClientError):
                await client.post("/healthz", headers=shown)
        assert "cannot be read" in on_tcp.trouble.current[name].error
        token.write_text(TOKEN)
        token.chmod(0o600)
        async with client.get("/healthz", headers=shown) as answer:
            assert answer.status == 200
        assert on_tcp.trouble.current == {}

    on_tcp.serve(work)
    assert caplog.text.count("the next connection has it tried again") == 1


def test_the_agent_that_runs_says_what_it_cannot_tell_others(agent: Agent) -> None:
    agent.trouble.set("notify:phone", "it answers 500")

    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get("/v1/status") as answer:
            [failing] = (await answer.json())["outside"]
            assert (failing["name"], failing["error"]) == ("notify:phone", "it answers 500")

    agent.serve(work)
