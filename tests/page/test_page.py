"""The page in a browser: that it follows what happens, and can be used by everybody."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, expect

from agent.domain.outcome import Reason
from tests.page.conftest import HERE, SHOTS, TOOLS, Open
from tests.sandbox.process import wait_until
from tests.unit.judged import hold
from tests.unit.test_page import HOSTILE, _with, document, entry
from tests.unit.test_page_past import recorded
from tests.unit.test_page_peers import peer, saying

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

_PLACES = ("", "/stacks/one", "/stacks/two")
TOKEN = "0123456789abcdef0123456789abcdef"
WIDTHS = (360, 1024, 1920)
_WAIT_MS = 45_000
"""Less than the minute after which a page looks by itself: it has to hear of what happens."""
AXE = """async () => {
  const found = await axe.run(document, {resultTypes: ["violations"]});
  return found.violations.filter((each) => ["serious", "critical"].includes(each.impact)).map(
    (each) => each.id + each.nodes.map((node) => node.html + node.failureSummary).join("; "));
}"""


@pytest.fixture
def shown(host: Host) -> Iterator[Host]:
    """The host while its agent runs."""
    with host.running() as agent:
        agent.says("in sync with")
        yield host


def _with_peers(host: Host, url: str) -> None:
    host.config["peers"] = [
        {"name": "nas", "url": url},
        {"name": "attic", "url": "http://127.0.0.1:1"},
    ]
    host.write_config()


@pytest.mark.usefixtures("shown")
def test_a_deploy_and_a_rogue_are_there_without_a_reload(
    fleet: Fleet, look: Open, record_property: Callable[[str, object], None]
) -> None:
    page = look()
    expect(page.locator("#verdict")).to_contain_text("In sync")
    page.evaluate("window.same = true")
    fleet.commit(
        "two: say it in another way", {"stacks/one/compose.yaml": fleet.compose(fleet.web2)}
    )
    stack = page.locator("#stacks tr", has_text="web:2.0")
    expect(stack).to_contain_text("synced", timeout=_WAIT_MS)
    expect(page.locator("#verdict")).to_contain_text("say it in another way", timeout=_WAIT_MS)
    expect(page.locator("#verdict")).to_contain_text("In sync", timeout=_WAIT_MS)

    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    started = time.monotonic()
    expect(page.locator("#undeclared")).to_contain_text("rogue", timeout=_WAIT_MS)
    record_property("seconds", round(time.monotonic() - started, 1))
    assert page.evaluate("window.same"), "the page was loaded again"


def test_links_filters_and_copy_buttons_work(fleet: Fleet, shown: Host, look: Open) -> None:
    fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
    wait_until(lambda: "rogue" not in fleet.running(), what="the rogue to be ended")
    page = look(permissions=["clipboard-read", "clipboard-write"])
    button = page.locator("#undeclared button").first
    button.click()
    expect(button).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert re.fullmatch(r"commitd undo [0-9a-f]{12}", copied)
    assert shown.commitd(*copied.split()[1:]).returncode == 0

    page.locator("#stacks a", has_text="one").click()
    expect(page).to_have_url(f"{HERE}/hosts/media/stacks/one")
    expect(page.locator("h1")).to_contain_text("one")
    page.get_by_role("link", name="History").click()
    expect(page.locator("h1")).to_contain_text("History")
    expect(page.locator("main")).to_contain_text("eviction")
    page.locator("select[name=action]").select_option("deploy")
    page.locator("form.filter button").click()
    expect(page).to_have_url(re.compile("action=deploy"))
    expect(page.locator(".history tbody")).to_contain_text("deploy")
    expect(page.locator(".history tbody")).not_to_contain_text("eviction")
    page.go_back()
    page.locator("a.brand").click()
    expect(page.locator("#verdict")).to_be_visible()
    assert page.locator("time").first.get_attribute("title"), "times are in the reader's zone"
    assert not page.locator("time").first.inner_text().endswith("UTC")


def test_the_history_is_that_of_the_hosts_that_are_chosen(host: Host, look: Open) -> None:
    done = [
        entry("2026-01-02T09:00:00Z", id=8, subject="photos"),
        entry("2026-01-01T09:00:00Z", id=7, subject="<script>alert(1)</script>", action="teleport"),
    ]
    with peer(recorded(*done)) as (url, _):
        _with_peers(host, url)
        with host.running() as agent:
            agent.says("in sync with")
            page = look("/history")
            rows = page.locator(".history tbody tr")
            expect(rows).not_to_have_count(0)
            expect(page.locator(".history")).not_to_contain_text("photos")

            page.locator("select[name=host]").select_option("*")
            page.locator("form.filter button").click()
            expect(page.locator("h1")).to_contain_text("all hosts")
            expect(page.locator("#silent")).to_contain_text("done on attic is not known here")
            expect(rows.last).to_contain_text("teleport <script>alert(1)</script>")
            expect(rows.last.get_by_role("link", name="nas")).to_be_visible()
            expect(page.locator(".history")).to_contain_text("deploy one")

            page.locator("select[name=host]").select_option("nas")
            page.locator("select[name=action]").select_option("deploy")
            page.locator("form.filter button").click()
            expect(rows).to_have_count(1)
            expect(rows).to_contain_text("photos")
            expect(page.locator("#pictures figure")).to_have_count(2)


@pytest.mark.usefixtures("shown")
def test_times_are_in_the_readers_zone_and_words(fleet: Fleet, look: Open) -> None:
    fleet.commit("two", {"stacks/one/compose.yaml": fleet.compose(fleet.web2)})
    page = look("/hosts/media/stacks/one", timezone_id="Asia/Tokyo", locale="de-DE")
    expect(page.locator("#history tbody tr")).to_have_count(2, timeout=_WAIT_MS)
    for shown, at in (("time", "datetime"), ("option", "data-at")):
        page.reload()
        each = page.locator(shown).first
        then = datetime.fromisoformat(str(each.get_attribute(at)))
        written = f"{then.astimezone(ZoneInfo('Asia/Tokyo')):%d.%m.%Y, %H:%M:%S}"
        expect(each).to_contain_text(written)


@pytest.mark.usefixtures("shown")
@pytest.mark.parametrize(("motion", "moves"), [("reduce", "none"), ("no-preference", "changed")])
def test_nothing_moves_for_those_who_want_no_motion(
    fleet: Fleet, look: Open, motion: Any, moves: str
) -> None:
    page = look(reduced_motion=motion)
    expect(page.locator("#verdict")).to_contain_text("In sync")
    for subject in ("two", "three"):  # what differs is known from the second look on
        fleet.commit(subject, {"global/a.env": f"A={subject}\n"})
        expect(page.locator("#verdict")).to_contain_text(subject, timeout=_WAIT_MS)
    expect(page.locator("#verdict.changed")).to_have_count(1)
    name = "getComputedStyle(document.getElementById('verdict')).animationName"
    assert page.evaluate(name) == moves


@pytest.mark.usefixtures("shown")
def test_it_works_without_script_and_by_keyboard(look: Open) -> None:
    plain = look(java_script_enabled=False)
    expect(plain.locator("#verdict")).to_contain_text("In sync")
    assert plain.locator("time").first.inner_text().endswith("UTC")
    expect(plain.locator("button.copy")).to_have_count(plain.locator("button.copy[hidden]").count())
    plain.locator("#stacks a", has_text="two").click()
    expect(plain.locator("h1")).to_contain_text("two")

    page = look()
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    reached = []
    for _ in range(20):
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        if reached[-1] == "one":
            break
        page.keyboard.press("Tab")
    assert reached[-1] == "one", reached
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{HERE}/hosts/media/stacks/one")


def test_the_token_is_given_once_in_a_form(fleet: Fleet, host: Host, look: Open) -> None:
    token = host.root / "api.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    host.config["api"] = {"token_file": str(token)}
    host.write_config()
    with host.running() as agent:
        agent.says("in sync with")
        for script in (True, False):
            page = look("/hosts/media/stacks/one", java_script_enabled=script)
            expect(page.locator("h1")).to_contain_text("token")
            if script:
                assert axe(page) == []
                _shoot(page, "login")
            page.get_by_role("textbox", name="Token").fill("a wrong one")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert")).to_contain_text("not the token")
            page.goto("/hosts/media/stacks/one")
            page.get_by_role("textbox", name="Token").fill(TOKEN)
            page.get_by_role("button", name="Show the page").click()
            expect(page).to_have_url(f"{HERE}/hosts/media/stacks/one")
            expect(page.locator("h1")).to_contain_text("one")
            [cookie] = page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            assert TOKEN not in cookie["value"]
            page.goto("/")
            expect(page.locator("#verdict")).to_contain_text("In sync")
            if script:
                page.evaluate("window.same = true")
                fleet.commit("three", {"stacks/two/compose.yaml": fleet.compose(fleet.web2)})
                expect(page.locator("#verdict")).to_contain_text("three", timeout=_WAIT_MS)
                assert page.evaluate("window.same"), "events are heard with the cookie"
            page.get_by_role("button", name="Log out").click()
            expect(page.locator("h1")).to_contain_text("token")
            assert page.context.cookies() == []
            page.context.close()
        assert TOKEN not in agent.log


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault_and_nothing_is_wider_than_the_window(
    fleet: Fleet, host: Host, look: Open, scheme: Any
) -> None:
    told = document(
        holds=[hold("web", Reason.CLIFF, person=True), hold("rogue", Reason.VOLUMES)],
        broken={"db": "stacks/db/compose.yaml:3: unknown key"},
    )
    with peer(saying(json.dumps({**told, "host": "nas"}).encode())) as (url, _):
        _with_peers(host, url)
        with host.running() as agent:
            agent.says("in sync with")
            fleet.commit("bad", {"stacks/one/compose.yaml": fleet.compose(more="    bogus: 1\n")})
            fleet.box.engine.run("run", "--detach", "--name", "rogue", fleet.idle)
            wait_until(lambda: "rogue" not in fleet.running(), what="the rogue to be ended")
            wait_until(
                lambda: host.json("status")["stacks"][0]["sync"] in {"failed", "held"},
                what="the bad commit to be refused",
            )
            for name, path in (
                ("fleet", "/"),
                ("host", "/hosts/media"),
                ("peer", "/hosts/nas"),
                ("stack", "/hosts/media/stacks/one"),
                ("history", "/history"),
                ("histories", "/history?host=*"),
            ):
                page = look(path, color_scheme=scheme, reduced_motion="reduce")
                expect(page.locator("h1")).to_be_visible()
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": 900})
                    assert page.evaluate("document.scrollingElement.scrollWidth") <= width, name
                    _shoot(page, f"{name}-{scheme}-{width}")
                    assert axe(page) == [], (name, width)
                page.context.close()


def test_hostile_names_do_nothing(fleet: Fleet, host: Host, look: Open) -> None:
    said = '<script>alert(1)</script> "><img src=x onerror=alert(1)> javascript:alert(1) \u202egnp'
    fleet.workspace.git("config", "user.name", "<img src=//evil.example onerror=alert(2)>")
    label = "    labels: {x: '<script>alert(3)</script>'}\n"
    last_words = "<script>alert(5)</script><img src=//evil.example> javascript:alert(6) \u202egnp"
    failing = f"    command: [sh, -c, 'echo \"{'y' * 10_000} {last_words}\"; exit 4']\n"
    fleet.commit(
        said + "x" * 10_000,
        {
            "stacks/one/compose.yaml": fleet.compose(fleet.web2, more=label),
            "stacks/two/compose.yaml": fleet.compose(fleet.web, more=failing),
        },
    )
    given = document(
        holds=[hold("web", Reason.CLIFF, person=True)], broken={"db": "why"}, enrolled=False
    )
    told = {"n": 0}

    def hostile(handler: Any) -> None:
        words = [word for word in HOSTILE if "\ud800" not in word]
        word = words[told["n"] % len(words)]
        told["n"] += 1
        status = {**_with(given, word), "revision": given["revision"]}
        for stack, mine in zip(status["stacks"], given["stacks"], strict=True):
            stack["revision"] = mine["revision"]
        for remote, mine in zip(status["remotes"], given["remotes"], strict=True):
            remote["head"] = mine["head"]
        saying(json.dumps(status).encode())(handler)

    host.constants = {"agent.control.outside.peers.FRESH_S": 0.0}
    with peer(hostile) as (url, _):
        _with_peers(host, url)
        with host.running() as agent:
            agent.says("two: rolling back")
            fleet.box.engine.run(
                "run", "--detach", "--name", "rogue", "--label", "a=<script>alert(4)</script>",
                fleet.idle,
            )  # fmt: skip
            wait_until(lambda: "rogue" not in fleet.running(), what="the rogue to be ended")
            page = look("/")
            for path in (
                ["/", "/hosts/nas"] * 8
                + [f"/hosts/media{path}" for path in _PLACES]
                + ["/history", "/history?host=*"]
            ):
                page.goto(path)
                expect(page.locator("h1")).to_be_visible()
                assert page.locator("script").count() == 1
                assert page.locator("img").count() == 0
                page.set_viewport_size({"width": 360, "height": 900})
                assert page.evaluate("document.scrollingElement.scrollWidth") <= 360, path
            assert told["n"] >= len(HOSTILE) - 1
            page.goto("/hosts/media/stacks/two")
            expect(page.locator("#failure")).to_contain_text("alert(6)")
            page.goto("/hosts/media")
            expect(page.locator("#verdict")).to_contain_text("<script>alert(1)</script>")
            assert "\u202e" not in page.content()
            page.context.close()


def axe(page: Page) -> list[str]:
    """Its serious faults; none is the aim."""
    page.evaluate((TOOLS / "node_modules/axe-core/axe.min.js").read_text())
    found: list[str] = page.evaluate(AXE)
    return found


def _shoot(page: Page, name: str) -> None:
    """For people: they lie in `.sandbox/page/shots`."""
    SHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
