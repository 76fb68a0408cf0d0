"""The page: what it shows, what it refuses to be, and that nothing in it comes from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from agent.domain.outcome import Reason
from agent.domain.status import peer_status, report
from agent.surface.page import text
from agent.surface.page.links import Links, file_name
from agent.surface.page.render import Renderer
from agent.surface.page.views import chips, timeline
from agent.surface.page.views.actions import lasted
from agent.surface.page.views.history import Asked, history
from agent.surface.page.views.host import host
from agent.surface.page.views.stack import releases, stack
from tests.unit.builders import container, release
from tests.unit.judged import DOWN, GITEA, LOOKED, facts, hold
from tests.values import replace

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "'-alert(1)-'",
    "x" * 10_000,
    "\u202egnp.exe\u202c",
    "\u2066\u2067evil\x00\x1b[2J\ud800",
    "{{ 7 * 7 }}",
    "</title><base href=//evil>",
)
_VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """A page as a browser reads it, as far as this asks: its tags, in balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.faults: list[str] = []
        self.feed(html)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) != len(names):
            self.faults.append(f"<{tag}> has an attribute twice")
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str) -> list[str]:
        """The values of an attribute, wherever it is."""
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def sound(html: str) -> Page:
    """The page, once it is seen that it is well-formed, its relations hold and it is all ours."""
    page = Page(html)
    assert page.faults == []
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    for relation in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
        for value in page.all(relation):
            assert set(value.split()) <= set(ids), (relation, value)
    for attribute in ("href", "src", "action", "data-events"):
        for link in page.all(attribute):
            assert re.match(r"(\.{1,2}/|#|\?)", link), link
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not page.all("style")
    assert {tag for tag, _ in page.tags} & {"style", "iframe", "object", "embed", "base"} == set()
    assert [attrs for tag, attrs in page.tags if tag == "script" and "src" not in attrs] == []
    return page


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


def document(**given: Any) -> dict[str, Any]:
    """The status of a host with one stack that is as it should be, but for what is ``given``."""
    return report.status(facts([release("web")], **given), changed_at=LOOKED)


def shown(renderer: Renderer, status: Mapping[str, Any], links: Links | None = None) -> Page:
    view = host(status)
    values = {"host": view, "icon": view.state.tone}
    return sound(renderer.page("host", links or Links(), values).decode())


def test_a_host_in_sync_says_so_in_words_and_asks_for_nothing(renderer: Renderer) -> None:
    page = shown(renderer, document())
    assert "In sync" in page.text
    assert "Needs you" not in page.text
    assert [href for href in page.all("href") if "icon-good.svg" in href]


def test_what_waits_for_a_person_stands_first_with_the_command_to_copy(renderer: Renderer) -> None:
    page = shown(renderer, document(holds=[hold("web", Reason.CLIFF, person=True)]))
    assert page.text.index("Needs you") < page.text.index("Stacks")
    [command] = page.all("data-copy")
    assert command.startswith("commitd approve ")
    assert command in page.text


def test_what_failed_for_good_needs_somebody_and_what_is_tried_again_does_not() -> None:
    def needed(reason: Reason, **given: Any) -> list[str]:
        return [
            each.subjects for each in host(document(holds=[hold("web", reason)], **given)).needs
        ]

    rolled_back = {"web": ("d1", "why")}
    assert needed(Reason.ROLLED_BACK, rollbacks=rolled_back) == ["web"]
    assert needed(Reason.ROLLED_BACK) == []  # it is tried again now
    assert needed(Reason.INVALID, broken={"web": "why"}, stacks={}) == ["web"]
    assert needed(Reason.AFTER) == needed(Reason.SECRET) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"running_agent": False}, "systemctl status commitd"),
        ({"enrolled": False}, "commitd enroll"),
    ],
)
def test_a_host_on_which_nothing_is_enforced_says_what_to_do(
    renderer: Renderer, given: dict[str, Any], said: str
) -> None:
    assert said in shown(renderer, document(**given)).all("data-copy")


def test_a_manager_that_stands_by_sends_to_the_leader_for_the_stacks(renderer: Renderer) -> None:
    status = report.status(replace(facts([release("web")]), standby="node2"))
    assert peer_status.read(json.dumps(status).encode())["standby"] == {"leader": "node2"}
    page = shown(renderer, status)
    assert "shown by the agent of the leader, node2" in page.text
    assert "Nothing is declared" not in page.text


def test_sync_and_health_are_two_columns(renderer: Renderer) -> None:
    ill = container("web-web-0", "web", "web", state="exited", exit_code=1)
    page = shown(renderer, document(containers=[ill]))
    assert "As in Git" in page.text
    assert "degraded" in page.text


def test_a_container_that_had_only_to_end_is_no_trouble(renderer: Renderer) -> None:
    assert chips.container("exited", None, well=True).tone == "unknown"
    assert chips.container("exited", None, well=False).tone == "bad"
    assert chips.container("running", "unhealthy", well=False).word == "unhealthy"
    assert chips.container("running", "healthy", well=True).word == "running"
    assert "Not followed yet" in shown(renderer, document()).text


def test_many_that_were_ended_are_folded_away(renderer: Renderer) -> None:
    ended = [{**_ROGUE, "id": f"{n}" * 64} for n in range(9)]
    status = report.status(facts([release("web")]), undeclared=ended)
    assert "Older ones: 3" in shown(renderer, status).text


def test_a_remote_tells_whether_it_answers_since_when_not_and_how_far_it_is(
    renderer: Renderer,
) -> None:
    behind = {**GITEA, "name": "mirror", "head": "d" * 40, "relation": "behind", "lag": 3}
    page = shown(renderer, document(remotes=[{**DOWN}, behind]))
    assert "2026-01-02T09:10:00Z" in page.all("datetime")
    assert "refused" in page.text
    assert "3 commits behind" in page.text


def test_a_state_is_told_by_a_sign_and_a_word_beside_its_colour() -> None:
    for word in ("synced", "healthy", "pending", "failed", "held", "unknown", "anything"):
        chip = chips.chip(word)
        assert chip.word == word
        assert chip.sign
    assert len({chips.of_host(s).sign for s in ("in-sync", "working", "waiting", "failed")}) == 4


def _with(value: Any, word: str) -> Any:
    """The document with ``word`` in the place of each text that no code of ours chooses."""
    ours = {
        "state", "sync", "health", "action", "reason", "relation", "since", "at", "checked_at",
        "down_since", "committed_at", "looked_at",
    }  # fmt: skip
    if isinstance(value, dict):
        return {k: each if k in ours else _with(each, word) for k, each in value.items()}
    if isinstance(value, list):
        return [_with(each, word) for each in value]
    return word if isinstance(value, str) else value


_ROGUE = {
    "id": "1" * 64, "name": "rogue", "image": "i", "action": "removed", "reason": "no-project",
    "message": "m", "at": LOOKED, "undoable": True,
}  # fmt: skip


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_text_and_steers_nothing(renderer: Renderer, word: str) -> None:
    given = facts(
        [release("web")],
        remotes=[DOWN],
        holds=[hold("web", Reason.CLIFF, person=True), hold("rogue", Reason.VOLUMES)],
        broken={"db": "why"},
    )
    status = report.status(
        given, undeclared=[_ROGUE, {**_ROGUE, "action": "exempt"}], changed_at=LOOKED
    )
    _harmless(shown(renderer, _with(status, word)), word)


@pytest.mark.parametrize("word", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_words_in_commits_files_and_errors_are_text(renderer: Renderer, word: str) -> None:
    entries = _with([entry(status="failed", error="e", cause=[_CAUSE])], word)
    view = stack(word, _with(why(), word), entries, _with(_CHANGES, word))
    page = sound(renderer.page("stack", Links(3), {"stack": view, "icon": "bad"}).decode())
    _harmless(page, word)
    _harmless(told(renderer, entries, Asked(subject=word, action=word)), word)


def _harmless(page: Page, word: str) -> None:
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 1
    assert "img" not in {tag for tag, _ in page.tags}
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", page.text)
    assert "x" * (text.LONGEST + 1) not in page.text
    assert ("{{ 7 * 7 }}" in page.text) == ("{{" in word)


def entry(at: str = LOOKED, **given: Any) -> dict[str, Any]:
    """Of the history."""
    return {
        "id": 1, "at": at, "action": "deploy", "subject": "web", "reason": "changed",
        "detail": None, "message": "its files changed", "cause": [], "revision": "a" * 40,
        "status": "succeeded", "attempts": 1, "duration_s": 3.25, "error": None,
        "actor": "ada (uid 1000)", **given,
    }  # fmt: skip


_CAUSE = {"kind": "file", "message": "stacks/web/compose.yaml: 1 → 2"}
_COMMIT = {"sha": "c" * 40, "author": "Ada <a@b.c>", "committed_at": LOOKED, "subject": "Run web"}
_CHANGES: dict[str, Any] = {
    "stack": "web", "from": {**_COMMIT, "sha": "b" * 40}, "to": _COMMIT, "more": 0,
    "files": [
        {"path": "p", "change": "changed", "diff": "@@ -1 +1 @@\n-old\n+new", "note": None},
        {"path": "s.secret.env", "change": "changed", "diff": None, "note": "a secret"},
    ],
}  # fmt: skip


def why(**given: Any) -> dict[str, Any]:
    """The document of a stack that is as it should be, but for what is ``given``."""
    state = document()["stacks"][0]
    place = {"where": "host/media/stacks.yaml:1", "commit": _COMMIT}
    container = {"id": "1", "name": "web-1", "image": "i", "state": "running", "health": None}
    service = {"name": "web", "image": "i", **place, "containers": [container]}
    return {
        "name": "web", "kind": "stack", "because": "it is declared", "stack": "web",
        "declared": place, "left": None, "state": state, "services": [service], "container": None,
        "exempt": None, "ended": None, "last": None, "touched": {"f": _COMMIT}, "words": None,
        **given,
    }  # fmt: skip


def told(renderer: Renderer, entries: list[dict[str, Any]], wanted: Asked | None = None) -> Page:
    view = history(
        "media", wanted or Asked(), found=entries, full=False, month=entries, outages=[],
        stacks=[each["subject"] for each in entries], now=NOW,
    )  # fmt: skip
    return sound(renderer.page("history", Links(), {"history": view, "icon": "plain"}).decode())


NOW = datetime(2026, 1, 2, 9, 15, tzinfo=UTC)


def test_a_stack_says_why_it_is_here_and_what_became_of_each_release(renderer: Renderer) -> None:
    entries = [entry(), entry(revision="b" * 40, status="failed", error="no such image")]
    view = stack("media", why(), entries, _CHANGES)
    page = sound(renderer.page("stack", Links(3), {"stack": view, "icon": "good"}).decode())
    for word in ("host/media/stacks.yaml:1", "Run web", "by Ada", "3.2 s", "no such image", "+new"):
        assert word in page.text
    assert "a@b.c" not in page.text
    assert page.text.count("aaaaaaa") > 1


def test_a_stack_that_failed_shows_what_was_said_and_how_root_reads_more(
    renderer: Renderer,
) -> None:
    last = entry(status="failed", error="web exited: no such table")
    view = stack("media", why(last=last), [last], None)
    page = sound(renderer.page("stack", Links(3), {"stack": view, "icon": "bad"}).decode())
    assert page.text.index("no such table") < page.text.index("Why it is here")
    assert page.all("data-copy") == ["sudo commitd why web"]


def test_a_long_history_of_a_stack_leads_to_all_of_it(renderer: Renderer) -> None:
    def links(links: Links, *, older: bool) -> Page:
        view = stack("media", why(), [entry()], None, older=older)
        return sound(renderer.page("stack", links, {"stack": view, "icon": "good"}).decode())

    assert "../../../history?subject=web" in links(Links(3), older=True).all("href")
    assert "../../../history?subject=web" not in links(Links(3), older=False).all("href")
    assert "commitd history web" in links(Links(3, files=True), older=True).text


def test_times_in_a_choice_are_of_the_readers_zone_or_say_which(renderer: Renderer) -> None:
    view = stack("media", why(), [entry(), entry(revision="b" * 40)], None)
    page = sound(renderer.page("stack", Links(3), {"stack": view, "icon": "good"}).decode())
    assert page.all("data-at") == [LOOKED] * 4
    assert "aaaaaaa · 2026-01-02 09:14 UTC" in page.text


def test_pictures_say_from_when_on_they_are_whole(renderer: Renderer) -> None:
    def pictured(*, full: bool) -> Page:
        view = history(
            "media", Asked(), found=[], full=False, month=[entry()], outages=[], stacks=[],
            full_month=full, now=NOW,
        )  # fmt: skip
        return sound(renderer.page("history", Links(), {"history": view, "icon": "plain"}).decode())

    assert "the pictures begin at" in pictured(full=True).text
    assert LOOKED[:19] + "Z" in pictured(full=True).all("datetime")
    assert "the pictures begin at" not in pictured(full=False).text


def test_releases_are_the_commits_of_deploys_the_newest_first() -> None:
    def at(minute: int, **given: Any) -> dict[str, Any]:
        return entry(f"2026-01-02T09:{minute:02}:00Z", **given)

    entries = [
        at(9, action="rollback"), at(8, revision="b" * 40, status="failed"), at(7),
        at(6, action="hold", revision="c" * 40), at(5),
    ]  # fmt: skip
    found = releases(entries)
    assert [(each.short, each.at[14:16]) for each in found] == [
        ("bbbbbbb", "08"),
        ("aaaaaaa", "05"),
    ]


def test_a_stack_that_went_back_says_so_and_what_failed(renderer: Renderer) -> None:
    back = entry(action="rollback", reason="release-unhealthy")
    bad = entry(status="failed", error="web ended: no such table", revision="b" * 40)
    told = why(last=back)
    told["state"] |= {"sync": "failed", "rolled_back_to": "a" * 40}

    def page(history: list[dict[str, Any]]) -> Page:
        view = stack("media", told, history, None)
        return sound(renderer.page("stack", Links(3), {"stack": view, "icon": "bad"}).decode())

    shown = page([back, bad])
    assert "rolled back to aaaaaaa" in shown.text
    assert shown.text.index("no such table") < shown.text.index("Why it is here")
    assert "What failed last" not in page([entry(), bad]).text
    assert "What failed last" not in page([entry(action="hold", status="held")]).text


def test_the_history_keeps_what_was_asked_for(renderer: Renderer) -> None:
    page = told(renderer, [entry()], Asked(subject="web", action="deploy", since="7d"))
    chosen = [attrs["value"] for tag, attrs in page.tags if tag == "option" and "selected" in attrs]
    assert chosen == ["deploy", "7d"]
    assert "ordered by ada (uid 1000)" in page.text
    assert "web" in page.all("value")


@pytest.mark.parametrize(
    ("given", "lane"),
    [
        ({}, "Deploys"), ({"status": "failed"}, "Failures"), ({"action": "rollback"}, "Rollbacks"),
        ({"action": "remove-stack"}, "Removals"), ({"action": "evict"}, "Evictions"),
        ({"action": "restart"}, "Repairs"),
    ],
)  # fmt: skip
def test_each_kind_of_action_has_its_lane(given: dict[str, Any], lane: str) -> None:
    old, new = entry("2025-12-20T09:14:00Z", **given), entry("2026-01-02T09:14:00Z", **given)
    pictures = [make(NOW, [new, old], []) for make in (timeline.day, timeline.month)]
    counts = [{each.name: each.count for each in picture.lanes} for picture in pictures]
    assert [(found[lane], sum(found.values())) for found in counts] == [(1, 1), (2, 2)]
    assert pictures[0].lanes[0].bars[-1:] == () or pictures[0].lanes[0].bars[-1].slot == 95


def test_an_outage_goes_through_all_slots_that_it_touches() -> None:
    outages: list[dict[str, Any]] = [
        {"remote": "gitea", "since": "2026-01-02T08:00:00Z", "until": "2026-01-02T08:20:00Z"},
        {"remote": "github", "since": "2025-06-01T08:00:00Z", "until": None},
        {"remote": "github", "since": "2025-05-01T08:00:00Z", "until": "2025-05-02T08:00:00Z"},
    ]
    lane = timeline.day(NOW, [], outages[:1]).lanes[-1]
    assert [bar.slot for bar in lane.bars] == [91, 92]
    lane = timeline.day(NOW, [], outages).lanes[-1]
    assert (lane.count, len(lane.bars)) == (2, 96)


def test_what_is_older_is_on_another_page_that_is_narrowed_alike(renderer: Renderer) -> None:
    wanted = Asked(subject="a&b", action="deploy")
    view = history(
        "media", wanted, found=[entry()], full=True, month=[], outages=[], stacks=[], now=NOW
    )
    page = sound(renderer.page("history", Links(), {"history": view, "icon": "plain"}).decode())
    assert "?subject=a%26b&action=deploy&before=1" in page.all("href")
    assert "Older ones" not in told(renderer, [entry()]).text


def test_a_duration_is_told_as_people_do() -> None:
    shown = [lasted(seconds) for seconds in (None, 0.01, 0.44, 12, 200, 3725)]
    assert shown == ["", "", "0.4 s", "12 s", "3 min 20 s", "1 h 2 min"]


def test_times_in_sentences_are_elements_and_all_else_stays_text() -> None:
    found = text.prose("<b> since 2026-01-02T09:10:00Z & on")
    assert found.startswith("&lt;b&gt; since <time datetime=")
    assert found.endswith("</time> &amp; on")
    assert text.moment(None) == "never"
    assert text.moment("9999-99-99") == "9999-99-99"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "\u202e", "x" * 300, "CON\0", "%2e%2e"])
def test_a_name_leads_nowhere_but_below_its_directory(name: str) -> None:
    assert re.fullmatch(r"x-[0-9a-f]{24}", file_name(name))
    assert re.fullmatch(r"\.\./hosts/x-[0-9a-f]{24}\.html", Links(1, files=True).host(name))
    assert re.fullmatch(r"\.\./hosts/[\w%.~-]*", Links(1).host(name.replace("x" * 300, "")))


def test_links_are_relative_wherever_the_page_lies() -> None:
    assert Links(0).host("nas") == "./hosts/nas"
    assert Links(2).start == "../../"
    assert Links(2, files=True).start == "../../index.html"
    assert Links(1).events() == "../v1/events"
    assert Links(1, files=True).events() is None


def test_a_page_for_files_needs_no_agent(renderer: Renderer) -> None:
    assert shown(renderer, document(), Links(files=True)).all("data-events") == []


def test_the_script_asks_nobody_else_and_makes_no_markup_of_text(renderer: Renderer) -> None:
    script = renderer.assets["page.js"].content.decode()
    assert "://" not in script
    for sink in ("innerHTML", "insertAdjacent", "document.write", "eval(", "new Function"):
        assert sink not in script
    style = renderer.assets["style.css"].content.decode()
    assert "://" not in style
    assert "@import" not in style
