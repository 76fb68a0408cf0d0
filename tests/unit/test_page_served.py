"""The page over HTTP: who gets it, what it tells the browser to refuse, where its links lead."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import aiohttp
import pytest

from agent.domain.outside_config import Api
from tests.unit.test_api import TOKEN, Agent
from tests.unit.test_page import sound

BROWSER = {"Accept": "text/html,application/xhtml+xml;q=0.9"}


@pytest.fixture
def agent() -> Iterator[Agent]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="page-") as place:
        yield Agent(Path(place), listen=f"127.0.0.1:{port}")


async def _links(client: aiohttp.ClientSession, start: str) -> dict[str, tuple[int, str]]:
    """Everything that can be reached from a page by links, with its code and type."""
    found: dict[str, tuple[int, str]] = {}
    waiting = [start]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        async with client.get(path, headers=BROWSER) as answer:
            found[path] = answer.status, answer.content_type
            if answer.content_type != "text/html":
                continue
            page = sound(await answer.text())
        links = [link for name in ("href", "src") for link in page.all(name)]
        waiting += [urljoin(path, each).partition("#")[0] for each in links]
    return found


def test_each_link_of_each_page_leads_somewhere(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        found = await _links(client, "/")
        assert {code for code, _ in found.values()} == {200}
        assert "/history" in found
        assert {kind for _, kind in found.values()} == {
            "text/html", "text/css", "text/javascript", "image/svg+xml",
        }  # fmt: skip

    agent.serve(work)


def test_each_answer_tells_the_browser_to_load_nothing_from_elsewhere(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for path in ("/", "/hosts/media", "/hosts/nobody", "/nothing", "/assets/style.css"):
            async with client.get(path, headers=BROWSER) as answer:
                policy = answer.headers["Content-Security-Policy"].split("; ")
                assert "default-src 'none'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "base-uri 'none'" in policy
                assert "unsafe" not in answer.headers["Content-Security-Policy"]
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
                assert answer.headers["Referrer-Policy"] == "same-origin"
                kept = "no-store" if answer.content_type == "text/html" else "private"
                assert kept in answer.headers["Cache-Control"]

    agent.serve(work)


def test_no_answer_for_programs_is_kept_or_of_use_to_another_site(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for path in ("/v1/status", "/v1/history", "/metrics", "/v1/events", "/v1/nothing"):
            async with client.get(path) as answer:
                assert answer.headers["X-Content-Type-Options"] == "nosniff", path
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin", path
                assert answer.headers["Cache-Control"] == "no-store", path
                assert answer.headers["Server"] == "commitd", path

    agent.serve(work)


def test_what_a_browser_has_already_is_not_sent_again(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get("/assets/style.css") as answer:
            tag = answer.headers["ETag"]
            assert len(await answer.read()) > 1000
        async with client.get("/assets/style.css", headers={"If-None-Match": tag}) as answer:
            assert (answer.status, await answer.read()) == (304, b"")
        for name in ("nothing.css", "..%2frender.py", "page.js%00"):
            async with client.get(f"/assets/{name}") as answer:
                assert answer.status == 404

    agent.serve(work)


def test_what_is_wrong_is_a_page_for_a_browser_and_json_for_a_program(agent: Agent) -> None:
    async def work(client: aiohttp.ClientSession) -> None:
        for path, code in (
            ("/hosts/nobody", 404), ("/nothing", 404), ("/?x=1", 400), ("/history?x=1", 400),
            ("/history?action=explode", 400), ("/hosts/media/stacks/none", 404),
            ("/hosts/media/stacks/none?from=x&to=y", 400), ("/history?host=nobody", 404),
        ):  # fmt: skip
            async with client.get(path, headers=BROWSER) as answer:
                assert (answer.status, answer.content_type) == (code, "text/html")
                assert str(code) in sound(await answer.text()).text
            async with client.get(path) as answer:
                assert (answer.status, answer.content_type) == (code, "application/json")
        async with client.get("/v1/nothing", headers=BROWSER) as answer:
            assert (answer.status, answer.content_type) == (404, "application/json")
        async with client.post("/", headers=BROWSER) as answer:
            assert answer.status in {403, 405}

    agent.serve(work)


def test_the_page_is_for_those_who_may_read_the_api(agent: Agent) -> None:
    file = agent.place / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    agent.api = Api(token_file=file)

    async def work(client: aiohttp.ClientSession) -> None:
        right = {**BROWSER, "Authorization": f"Bearer {TOKEN}"}
        for path in ("/", "/hosts/media", "/history"):
            async with client.get(path, headers=BROWSER) as answer:
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                said = (await answer.text()).replace(
                    'value="hosts/media"', ""
                )  # what was asked for
                assert "media" not in said
            async with client.get(path, headers={**right, "Host": "evil.example"}) as answer:
                assert answer.status == 421
            async with client.get(path, headers=right) as answer:
                assert answer.status == 200

    agent.serve(work)


def test_the_page_is_on_tcp_alone(agent: Agent) -> None:
    agent.listen = None

    async def work(client: aiohttp.ClientSession) -> None:
        async with client.get("/", headers=BROWSER) as answer:
            assert answer.status == 404

    agent.serve(work)


def test_what_makes_pages_is_loaded_for_the_first_of_them() -> None:
    script = (
        "import sys\n"
        "import agent.surface.api.server, agent.surface.page.door\n"
        "found = {'jinja2', 'agent.surface.page.site'} & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
