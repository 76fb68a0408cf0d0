"""The page of a real agent: what it tells of real stacks, and what hostile words do in it."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tests import schemas
from tests.sandbox.process import wait_until
from tests.unit.test_page import Page, sound

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_PORT = 8793
_EVIL = "<script>alert(1)</script>"
_SUBJECT = f"{_EVIL} javascript:alert(2) \u202eevil {'x' * 10_000}"
_FAILING = f"    command: [sh, -c, \"echo '{_EVIL}'; exit 4\"]\n"
_ENV = "PORT=80\nDB_PASSWORD=hunter2\n"


def _get(path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", _PORT, timeout=60)) as connection:
        connection.request("GET", path, headers={"Accept": "text/html"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def _page(path: str) -> Page:
    code, text = _get(path)
    assert code == 200, text
    page = sound(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {"img", "iframe"} & {tag for tag, _ in page.tags}
    assert "\u202e" not in text
    assert "hunter2" not in text
    return page


def test_hostile_words_of_git_and_of_containers_are_text_on_each_page(fleet: Fleet) -> None:
    files = {
        "host/media/stacks.yaml": "- web\n- loop\n",
        "stacks/web/compose.yaml": fleet.compose(fleet.web),
        "stacks/web/.env": _ENV,
        "stacks/loop/compose.yaml": fleet.compose(more=_FAILING),
    }
    fleet.commit("first", files)
    host = fleet.host(listen=f"127.0.0.1:{_PORT}")
    with host.running() as agent:
        agent.says("loop")
        wait_until(lambda: "<script>" in _page("/hosts/media/stacks/loop").text, what="the failure")
        said = "loop is declared by host/media/stacks.yaml:2; it failed and waits"
        wait_until(lambda: said in _page("/hosts/media/stacks/loop").text, what="why it failed")
        second = fleet.commit(
            _SUBJECT,
            {
                "stacks/web/compose.yaml": fleet.compose(fleet.web2),
                "stacks/web/.env": f"{_ENV}MORE='{_EVIL}'\n",
            },
        )
        fleet.box.engine.run(
            "run", "-d", "--name", "rogue", "--network", "none", "--label", f"evil={_EVIL}",
            "--label", f"com.docker.compose.project={_EVIL}", fleet.idle,
        )  # fmt: skip
        wait_until(
            lambda: (
                f"commitd undo {_undeclared()}" in _page("/").all("data-copy")
                and second[:7] in _page("/").text
            ),
            what="the rogue container and the commit on the page",
        )
        seen = {"/"}
        waiting = ["/"]
        while waiting:
            path = waiting.pop()
            page = _page(path)
            links = {urljoin(path, each).partition("#")[0] for each in page.all("href")}
            found = {each for each in links - seen if not each.startswith("/assets/")}
            seen |= found
            waiting += found
        assert {"/hosts/media/stacks/web", "/hosts/media/stacks/loop", "/history"} <= seen
        web = _page("/hosts/media/stacks/web")
        assert "host/media/stacks.yaml:1" in web.text
        assert re.search(r"\+DB_PASSWORD|^ DB_PASSWORD=\[redacted\]", web.text, re.MULTILINE)
        assert f"+MORE='{_EVIL}'" in web.text
        document = json.loads(_get(f"/v1/changes/web?from={_first(web, second)}&to={second}")[1])
        assert schemas.faults(document, "changes") == []
        assert [file["path"] for file in document["files"]] == [
            "stacks/web/.env", "stacks/web/compose.yaml",
        ]  # fmt: skip
        assert _get("/v1/changes/web?from=abcd&to=abcd")[0] == 404
        assert _get(f"/v1/changes/rogue?from={second}&to={second}")[0] == 404


def test_the_pages_are_written_to_files_with_and_without_an_agent(
    fleet: Fleet, tmp_path: Path
) -> None:
    files = {
        "host/media/stacks.yaml": "- web\n",
        "stacks/web/compose.yaml": fleet.compose(fleet.web),
    }
    fleet.commit("first", files)
    host = fleet.host()
    with host.running() as agent:
        agent.says("in sync with")
        fleet.commit("second", {"stacks/web/compose.yaml": fleet.compose(fleet.web2)})
        agent.says("second by Ada")
        wait_until(lambda: _in_sync_with(host, fleet.web2), what="the second commit")
        said = host.commitd("page", "--out", str(tmp_path / "out"), check=True).stdout
        assert said == f"4 pages are in {tmp_path / 'out'}.\n"
        assert "In sync" in sound((tmp_path / "out/index.html").read_text()).text
    host.commitd("page", "--out", str(tmp_path / "out"), check=True)
    assert "No agent runs here" in sound((tmp_path / "out/index.html").read_text()).text
    web = sound((tmp_path / "out/hosts/media/stacks/web.html").read_text())
    assert re.search(r"^-    image: ", web.text, re.MULTILINE)
    assert "to " in web.text


def _in_sync_with(host: Host, image: str) -> bool:
    status = host.json("status")
    images = [each["image"] for stack in status["stacks"] for each in stack["services"]]
    return status["state"] == "in-sync" and images == [image]


def _undeclared() -> str:
    status = json.loads(_get("/v1/status")[1])
    assert schemas.faults(status, "status") == []
    return next((str(each["id"])[:12] for each in status["undeclared"]), "none")


def _first(page: Page, second: str) -> str:
    choices = [attrs["value"] for tag, attrs in page.tags if tag == "option"]
    return next(sha for sha in choices if sha and sha != second)


def test_a_remote_that_is_gone_is_on_the_page_and_in_the_outages(fleet: Fleet) -> None:
    fleet.commit(
        "first", {"host/media/stacks.yaml": "- one\n", "stacks/one/compose.yaml": fleet.compose()}
    )
    host = fleet.connected(listen=f"127.0.0.1:{_PORT}")
    host.constants = {"agent.domain.source.outages._SHORTEST_S": 0.5}
    with host.running() as agent:
        agent.says("in sync with")
        fleet.box.github.stop()
        wait_until(lambda: "down" in _page("/").text, what="the silence on the page")
        fleet.commit("second", {"global/a.env": "A=1\n"})  # a cycle writes down what was said
        wait_until(lambda: _outages() != [], what="the outage")
        fleet.box.github.start()
        fleet.commit("third", {"global/a.env": "A=2\n"})
        wait_until(lambda: all(each["until"] for each in _outages()), what="its end")
        assert {each["remote"] for each in _outages()} == {"github"}
        _page("/history")


def _outages() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(_get("/v1/outages")[1])
    assert schemas.faults(found, "outages") == []
    return found
