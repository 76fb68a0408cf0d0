"""The history of other hosts: peers are asked as strangers, and merged by time."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from agent.adapters.state.journal import Journal
from agent.control.outside import peers
from agent.domain.errors import PermanentError
from agent.domain.outcome import Action, Reason
from agent.domain.outside_config import Peer
from agent.domain.status import peer_history
from agent.surface.page.views import actions
from agent.surface.page.views.merged import merged, places
from tests.unit.test_api import TOKEN, Agent
from tests.unit.test_page import HOSTILE, Page, _with, entry, sound
from tests.unit.test_page_peers import peer, saying
from tests.unit.test_page_served import BROWSER

ALL = "/history?host=*"


@pytest.fixture
def agent() -> Iterator[Agent]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="past-") as place:
        yield Agent(Path(place), listen=f"127.0.0.1:{port}")


async def _page(client: aiohttp.ClientSession, path: str, code: int = 200) -> Page:
    async with client.get(path, headers=BROWSER) as answer:
        assert answer.status == code, await answer.text()
        return sound(await answer.text())


def _told(*entries: dict[str, Any]) -> bytes:
    return json.dumps(entries).encode()


def recorded(*entries: dict[str, Any]) -> Callable[[BaseHTTPRequestHandler], None]:
    """An agent that has done this, the newest first."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked = urlsplit(handler.path)
        query = {key: values[0] for key, values in parse_qs(asked.query).items()}
        if asked.path == "/v1/outages":
            return saying(b"[]")(handler)
        subject, before = query.get("subject"), int(query.get("before", 0))
        if subject and subject not in {each["subject"] for each in entries}:
            return saying(b"{}", 404)(handler)
        found = [
            each
            for each in entries
            if (not subject or each["subject"] == subject)
            and query.get("action") in {None, each["action"]}
            and (not before or each["id"] < before)
        ]
        return saying(_told(*found[: int(query["limit"])]))(handler)

    return answer


def _many(count: int, subject: str, hour: int = 9) -> list[dict[str, Any]]:
    return [
        entry(f"2026-01-02T{hour:02}:{n // 60:02}:{n % 60:02}Z", id=n + 1, subject=f"{subject}-{n}")
        for n in reversed(range(count))
    ]


def _lines(*entries: dict[str, Any]) -> tuple[actions.Line, ...]:
    return tuple(map(actions.line, entries))


# --- merging ---


def test_actions_of_many_hosts_are_one_list_the_newest_first() -> None:
    media = _lines(entry("2026-01-02T09:05:00Z", id=7), entry("2026-01-02T09:01:00Z", id=3))
    nas = _lines(entry("2026-01-02T09:03:00.5Z", id=900), entry("2026-01-02T09:03:00Z", id=800))
    found, more = merged({"media": media, "nas": nas}, {}, 10)
    assert [(each.host, each.id) for each in found] == [
        ("media", 7), ("nas", 900), ("nas", 800), ("media", 3),
    ]  # fmt: skip
    assert more is None


def test_pages_of_many_hosts_leave_nothing_out_and_show_nothing_twice() -> None:
    done = {"media": _many(7, "a"), "nas": _many(12, "b"), "idle": []}
    seen: list[tuple[str, int]] = []
    before: str | None = ""
    while before is not None:
        place = places(before, tuple(done))
        lists = {
            name: _lines(*[e for e in each if not place[name] or e["id"] < place[name]][:6])
            for name, each in done.items()
        }
        found, before = merged(lists, place, 5)
        seen += [(each.host, each.id) for each in found]
    assert len(seen) == len(set(seen)) == 19


def test_a_host_that_was_silent_goes_on_where_it_was() -> None:
    media = _lines(*_many(3, "a"))
    _, more = merged({"media": media, "nas": ()}, {"media": 9, "nas": 40}, 2)
    assert places(more or "", ("media", "nas", "new")) == {"media": 2, "nas": 40, "new": 0}


@pytest.mark.parametrize("written", ["nas", "nas:", "nas:x", "nas:-1", "n s:1", "nas:" + "9" * 19])
def test_where_a_page_begins_is_a_number_for_each_host(written: str) -> None:
    with pytest.raises(ValueError, match="is no host with the number"):
        places(written, ("nas",))
    assert places("gone:5", ("nas",)) == {"nas": 0}


# --- what a peer says ---


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 0}, {"id": 10**18}, {"id": "1"}, {"at": "yesterday"}, {"at": "2026-13-02T09:00:00Z"},
        {"at": "2026-01-02T09:00:00"}, {"revision": "x; reboot"}, {"duration_s": -1},
        {"attempts": 10**9}, {"cause": [{}]}, {"cause": None}, {"message": 5},
    ],
)  # fmt: skip
def test_what_is_no_action_is_not_shown_as_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentError):
        peer_history.read(_told(entry(**wrong)), limit=10)


@pytest.mark.parametrize("body", [b"", b"{}", b"[" * 100_000, b"\xff", b"[1]", b"null"])
def test_what_is_no_history_is_refused(body: bytes) -> None:
    with pytest.raises(PermanentError):
        peer_history.read(body, limit=10)
    with pytest.raises(PermanentError):
        peer_history.outages(body)


def test_actions_out_of_order_or_of_another_page_are_refused() -> None:
    twice = _told(entry(id=5), entry(id=5))
    with pytest.raises(PermanentError, match="not in order"):
        peer_history.read(twice, limit=10)
    with pytest.raises(PermanentError, match="not in order"):
        peer_history.read(_told(entry(id=9)), limit=10, before=9)


def test_what_a_peer_says_is_bounded_in_number_and_length() -> None:
    long = "x" * 50_000
    cause = [{"message": long}] * 500
    flood = entry(
        subject=long, message=long, error=long, actor=long, action=long, status=long, cause=cause
    )
    body = _told(*({**flood, "id": 9 - n} for n in range(5)))
    found = peer_history.read(body, limit=2)
    assert len(found) == 2
    assert len(json.dumps(found)) < 2 * 8000
    assert actions.line(found[0]).more == 492


def test_an_older_agent_names_nobody_who_ordered_it() -> None:
    old = entry()
    del old["actor"]
    assert peer_history.read(_told(old), limit=1)[0]["actor"] is None


# --- the page ---


def test_the_history_of_a_peer_and_of_all_hosts(agent: Agent) -> None:
    token = agent.place / "nas.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    journal = Journal(agent.place / "journal.db")
    journal._begin(Action.DEPLOY, "web", Reason.NEW)
    journal.close()
    theirs = [
        entry("2099-01-02T09:00:00Z", id=8, subject="photos", action="teleport", status="odd"),
        entry(id=7, subject="files", action="deploy"),
    ]

    async def work(client: aiohttp.ClientSession) -> None:
        page = await _page(client, "/history")
        assert page.all("value")[:3] == ["media", "nas", "*"]
        assert "web" in page.text
        assert "photos" not in page.text
        assert heard == [], "nobody is asked who is not looked at"

        page = await _page(client, "/history?host=nas")
        assert "History of nas" in page.text
        assert "teleport photos" in page.text
        assert "web" not in page.text
        assert "Last 24 hours" in page.text
        assert "./hosts/nas/stacks/files" not in page.all("href"), "its pages are there"
        assert sorted(each["path"] for each in heard) == [
            "/v1/history?limit=101", "/v1/history?since=30d&limit=300", "/v1/outages",
        ]  # fmt: skip
        assert {each["Authorization"] for each in heard} == {f"Bearer {TOKEN}"}

        page = await _page(client, ALL)
        assert "History of all hosts" in page.text
        found = [
            page.text.index(name) for name in ("teleport photos", "deploy web", "deploy files")
        ]
        assert found == sorted(found), "merged by time, the newest first"
        assert page.all("data-label").count("Host") == 3
        assert "./hosts/media/stacks/web" in page.all("href")
        assert "Last 24 hours" not in page.text

        page = await _page(client, f"{ALL}&subject=files&action=deploy&since=30d")
        assert "subject=files&action=deploy&since=30d" in heard[-1]["path"]
        assert "files" in page.text
        assert "photos" not in page.text
        page = await _page(client, "/history?host=nas&subject=nothing")
        assert "Nothing was done." in page.text
        assert "not known here" not in page.text
        await _page(client, f"{ALL}&before=12", 400)
        await _page(client, "/history?host=nobody", 404)
        await _page(client, "/history?host=nas&before=x", 400)
        await _page(client, "/history?host=nas&host=media", 400)

    with peer(recorded(*theirs)) as (url, heard):
        agent.peers = (Peer(name="nas", url=url, token_file=token),)
        agent.serve(work)


def test_a_page_is_asked_for_once_however_many_look(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for _ in range(5):
            await _page(client, ALL)
        assert len(heard) == 1

    with peer(recorded(entry())) as (url, heard):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


def test_older_pages_of_a_peer_and_of_all_hosts(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "FRESH_S", 0.0)

    async def shown(client: aiohttp.ClientSession, path: str) -> list[str]:
        found: list[str] = []
        for _ in range(4):
            page = await _page(client, path)
            found += re.findall(r"deploy ([ab]-\d+)", page.text)
            older = [link for link in page.all("href") if "before=" in link]
            if not older:
                return found
            assert "host=" in older[0]
            path = f"/history{older[0]}"
        raise AssertionError("there is no last page")

    async def work(client: aiohttp.ClientSession) -> None:
        found = await shown(client, "/history?host=nas")
        assert found == [each["subject"] for each in nas]
        found = await shown(client, ALL)
        assert len(found) == len(set(found)) == 270

    nas, box = _many(150, "a", 9), _many(120, "b", 9)
    with peer(recorded(*nas)) as (one, _), peer(recorded(*box)) as (two, _):
        agent.peers = (Peer(name="nas", url=one), Peer(name="box", url=two))
        agent.serve(work)


def test_one_that_does_not_answer_is_named_and_the_rest_shown(agent: Agent) -> None:
    go_on = threading.Event()

    def hanging(handler: BaseHTTPRequestHandler) -> None:
        go_on.wait(30)
        saying(b"[]")(handler)

    async def work(client: aiohttp.ClientSession) -> None:
        page = await _page(client, ALL)
        assert "files" in page.text
        assert "done on box is not known here: no answer within" in page.text
        assert "done on gone is not known here: cannot connect: Connection refused" in page.text
        assert "done on nas is not known here" not in page.text
        page = await _page(client, "/history?host=gone")
        assert "done on gone is not known here" in page.text
        assert "Nothing was done" not in page.text, "that is not known"
        go_on.set()

    with peer(saying(b"[]")) as (gone, _):
        pass
    with peer(recorded(entry(subject="files"))) as (nas, _), peer(hanging) as (box, _):
        agent.peers = (
            Peer(name="nas", url=nas), Peer(name="box", url=box), Peer(name="gone", url=gone),
        )  # fmt: skip
        agent.serve(work)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (saying(b"<html>hello"), "no agent of a version that is known"),
        (saying(b"[" * 100_000), "no agent of a version that is known"),
        (saying(b"", 302, Location="http://127.0.0.1:1/steal"), "302: we are sent elsewhere"),
        (saying(b"", 400), "400: it does not know what is asked"),
        (saying(b"", 401), "401: a token is needed there"),
        (saying(b"", 404), "404: what answers there is not the API"),
        (saying(b" " * (1024 * 1024 + 1)), "does not speak HTTP as it should"),
    ],
    ids=range(7),
)
def test_what_is_no_answer_of_an_agent_is_said_to_be_none(
    agent: Agent, answer: Callable[[BaseHTTPRequestHandler], None], said: str
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for path in (ALL, "/history?host=nas", f"{ALL}&subject=media"):
            page = await _page(client, path)
            assert "done on nas is not known here" in page.text
            assert said in page.text

    with peer(answer) as (url, _):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_peer_is_text(agent: Agent, word: str) -> None:
    given = entry(error="e", cause=[{"kind": "file", "message": "m"}] * 20)
    hostile = {**_with(given, word), "revision": "a" * 40, "action": word, "status": word}
    body = json.dumps([hostile], ensure_ascii="\ud800" in word).encode()

    async def work(client: aiohttp.ClientSession) -> None:
        for path in (ALL, "/history?host=nas"):
            page = await _page(client, path)
            assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
            assert "img" not in {tag for tag, _ in page.tags}
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", page.text)
            assert "x" * 2001 not in page.text

    with peer(saying(body)) as (url, _):
        agent.peers = (Peer(name="nas", url=url),)
        agent.serve(work)
