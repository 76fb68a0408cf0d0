"""The page beyond loopback: the token is given once, and nothing but a page of ours can send it."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.domain.outside_config import Api
from agent.surface.api import events
from agent.surface.page import sessions
from agent.surface.page.sessions import LASTS_S, OF_ALL, OF_ONE, WITHIN_S, Sessions, Tries
from tests.unit.test_api import TOKEN, Agent
from tests.unit.test_page import sound
from tests.unit.test_page_served import BROWSER


@pytest.fixture
def agent() -> Iterator[Agent]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="login-") as place:
        file = Path(place, "token")
        file.write_text(TOKEN)
        file.chmod(0o600)
        api = Api(token_file=file, hosts=("page.example",))
        yield Agent(Path(place), listen=f"127.0.0.1:{port}", api=api)


async def _post(
    client: aiohttp.ClientSession, agent: Agent, path: str = "/login", **given: Any
) -> aiohttp.ClientResponse:
    """Send a form as a browser does; ``given`` replaces fields and headers."""
    headers = {**BROWSER, "Origin": f"http://{agent.listen}", **given.pop("headers", {})}
    headers = {name: value for name, value in headers.items() if value is not None}
    form = {"token": TOKEN, "to": "", **given}
    return await client.post(path, data=form, headers=headers, allow_redirects=False)


def _cookie(answer: aiohttp.ClientResponse) -> Any:
    [written] = answer.headers.getall("Set-Cookie")
    [(_, morsel)] = SimpleCookie(written).items()
    return morsel


def test_the_token_is_given_once_and_the_cookie_is_no_token(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        answer = await client.get("/hosts/media?x=1", headers=BROWSER)
        page = sound(await answer.text())
        assert answer.status == 401
        assert page.all("action") == ["../login"]
        assert page.all("data-events") == [], "it would load itself again and again"
        assert "hosts/media?x=1" in page.all("value")
        for link in (*page.all("href"), *page.all("src")):
            if "assets" in link:
                assert (await client.get(link.replace("../", "/"))).status == 200

        answer = await _post(client, agent, to="hosts/media")
        cookie = _cookie(answer)
        assert (answer.status, answer.headers["Location"]) == (303, "./hosts/media")
        assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
        assert (cookie["max-age"], cookie["path"]) == (str(LASTS_S), "")
        assert not cookie["secure"]
        assert not cookie["domain"]
        assert TOKEN not in str(cookie)

        shown = {**BROWSER, "Cookie": f"{cookie.key}={cookie.value}"}
        for path in ("/", "/hosts/media", "/v1/history"):
            assert (await client.get(path, headers=shown)).status == 200
        assert "Log out" in await (await client.get("/", headers=shown)).text()
        assert (await client.post("/v1/sync", headers=shown)).status == 403
        evil = {**shown, "Host": "evil.example"}
        assert (await client.get("/", headers=evil)).status == 421

        foreign = await _post(
            client, agent, "/logout", headers={"Cookie": shown["Cookie"], "Origin": "http://evil"}
        )
        assert foreign.status == 403
        assert (await client.get("/", headers=shown)).status == 200
        ended = await _post(client, agent, "/logout", headers={"Cookie": shown["Cookie"]})
        assert (ended.status, _cookie(ended)["max-age"]) == (303, "0")
        assert (await client.get("/", headers=shown)).status == 401

    agent.serve(work)


def test_events_are_heard_for_as_long_as_the_session_lasts(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BEAT_S", 0.05)

    async def work(client: aiohttp.ClientSession) -> None:
        cookie = _cookie(await _post(client, agent))
        shown = {"Cookie": f"{cookie.key}={cookie.value}"}
        program = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            client.get("/v1/events", headers=shown) as heard,
            client.get("/v1/events", headers=program) as goes_on,
        ):
            assert await heard.content.readline() == b":\n"
            assert (await _post(client, agent, "/logout", headers=shown)).status == 303
            await heard.content.read()  # to its end
            for _ in range(8):
                assert await goes_on.content.readline()

    agent.serve(work)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": None},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://["},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_no_other_site_can_have_the_form_sent(agent: Agent, headers: dict[str, Any]) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for path in ("/login", "/logout"):
            answer = await _post(client, agent, path, headers=headers)
            assert answer.status == (421 if "Host" in headers else 403)
            assert "Set-Cookie" not in answer.headers

    agent.serve(work)


def test_behind_https_the_cookie_never_goes_without(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        proxied = {"Host": "page.example", "Origin": "https://page.example"}
        cookie = _cookie(await _post(client, agent, headers=proxied))
        assert cookie["secure"]

    agent.serve(work)


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil",
        "../../x",
        "a//b",
        "x" * 600,
        "a\nb",
        "%2e%2e/x",
        "a/%2E./%2e%2E/x",
    ],
)
def test_a_login_leads_to_no_other_host(agent: Agent, to: str) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        answer = await _post(client, agent, to=to)
        assert (answer.status, answer.headers["Location"]) == (303, "./")

    agent.serve(work)


def test_wrong_tokens_are_counted_and_say_when_to_try_again(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for _ in range(OF_ONE):
            answer = await _post(client, agent, token="wrong-" + TOKEN)
            assert answer.status == 401
            assert "this is not the token" in sound(await answer.text()).text
        answer = await _post(client, agent)
        text = sound(await answer.text()).text
        assert answer.status == 429
        assert re.search(r"try again in \d+ seconds", text)
        program = {"Authorization": f"Bearer {TOKEN}"}
        assert (await client.get("/v1/history", headers=program)).status == 200

    agent.serve(work)
    assert caplog.text.count("a wrong token was given") == OF_ONE
    assert TOKEN not in caplog.text


def test_a_form_is_small_and_a_form(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        origin = {"Origin": f"http://{agent.listen}"}
        too_long = await client.post("/login", headers=origin, data={"token": "x" * 10_000})
        no_form = await client.post("/login", headers=origin, json={"token": TOKEN})
        assert (too_long.status, no_form.status) == (400, 400)
        again = sound(await (await client.get("/login", headers=BROWSER)).text())  # by "reload"
        assert "login" not in again.all("value")

    agent.serve(work)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("charset=none-such", b"token=x"), ("charset=unicode_escape", b"token=\\ud800"),
        ("charset=utf-8", b"token=\xff"), ("x", b"token=\xff"),
        ("x", b"&".join(b"%d=x" % n for n in range(1500))),
    ],
)  # fmt: skip
def test_what_is_no_text_is_no_form_and_no_fault_of_the_agent(
    agent: Agent, kind: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        headers = {
            **BROWSER, "Origin": f"http://{agent.listen}",
            "Content-Type": f"application/x-www-form-urlencoded; {kind}",
        }  # fmt: skip
        async with client.post("/login", headers=headers, data=body) as answer:
            assert answer.status in {400, 401}

    agent.serve(work)
    assert "unexpected" not in caplog.text


def test_without_a_token_there_is_no_login(agent: Agent) -> None:
    agent.api = Api()

    async def work(client: aiohttp.ClientSession) -> None:
        assert (await _post(client, agent)).status == 403
        assert "Log out" not in await (await client.get("/", headers=BROWSER)).text()

    agent.serve(work)


class _Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_after_a_day_and_there_are_only_so_many() -> None:
    clock = _Clock()
    known = Sessions(clock)
    words = [known.begin() for _ in range(sessions._MOST + 1)]
    assert [known.holds(words[n]) for n in (0, 1, -1)] == [False, True, True]
    assert not known.holds("")
    clock.now += LASTS_S
    assert not known.holds(words[-1])


def test_tries_are_limited_for_an_address_and_for_all_together() -> None:
    clock = _Clock()
    tries = Tries(clock)
    for n in range(OF_ONE):
        assert tries.wait_s("192.0.2.1") == 0
        tries.failed("192.0.2.1")
        tries.failed(f"2001:db8::{n}")
    assert tries.wait_s("192.0.2.1") == WITHIN_S
    assert tries.wait_s("2001:db8::ffff") > 0
    assert tries.wait_s("2001:db8:0:1::1") == tries.wait_s("192.0.2.2") == 0
    for n in range(OF_ALL - 2 * OF_ONE):
        tries.failed(f"198.51.100.{n}")
    assert tries.wait_s("192.0.2.2") == WITHIN_S
    clock.now += WITHIN_S
    assert tries.wait_s("192.0.2.1") == 0
