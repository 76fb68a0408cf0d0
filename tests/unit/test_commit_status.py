"""What a forge is told of a commit: decided by tables, sent by a real client to a small forge."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from agent.adapters.lru import Lru
from agent.adapters.outside import http
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.outside import commit_status
from agent.control.outside.commit_status import SENT, reporting
from agent.control.outside.running import Running
from agent.control.outside.trouble import Trouble
from agent.control.status.standing import Standings
from agent.domain.backoff import Backoff
from agent.domain.config import Config, Remote
from agent.domain.outcome import Action, Outcome, Reason, Status
from agent.domain.outside.commit_status import LONGEST, Done, Report, accepted, report, subject
from agent.domain.outside_config import CommitStatus
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.status import held, stack_state, verdict
from agent.domain.status.facts import Facts, LastLook
from tests import forges
from tests.forges import OTHER_TOKEN, TOKEN, Forge
from tests.unit import git_servers
from tests.unit.builders import SHA, attempt, container, release
from tests.unit.judged import DOWN, GITEA, LOOKED, SILENT, action, facts, hold

NEWER = "2b" * 20
WEB = release("web")
GOOD = Report(revision=SHA, state="success", text="deployed web")
SHOWS_NEWER = {**GITEA, "head": NEWER, "relation": "ahead"}


def told(
    host: Facts, *, ended: bool = True, done: Done | None = None, before: Report | None = None
) -> Report | None:
    holds = held.current(host)
    stacks = stack_state.states(host, holds)
    found = verdict.judge_states(host, holds, stacks)
    return report(host, holds, stacks, found, ended=ended, done=done or Done(), before=before)


def _held(reason: Reason, detail: str, *, subject: str = "media", person: bool = False) -> Facts:
    """A host that shows a newer commit which it does not follow."""
    found = facts(
        [WEB], remotes=[SHOWS_NEWER], holds=[hold(subject, reason, detail, person=person)]
    )
    return replace(found, attempted={"sha": NEWER})


@pytest.mark.parametrize(
    ("host", "done", "state", "text"),
    [
        (facts([WEB]), Done(deployed=["web"]), "success", "deployed web"),
        (facts([WEB]), Done(), "success", "nothing to do here"),
        (facts([WEB], remotes=[DOWN]), Done(), "success", "nothing to do here"),
        (
            facts([WEB]),
            Done(deployed=list("hgfedcba"), removed=["old"]),
            "success",
            "deployed a, b, c, d, e and 3 more; removed old",
        ),
        (
            facts([WEB], suspensions=[Suspension("web", None, "", LOOKED)]),
            Done(),
            "success",
            "nothing to do here; suspended: web",
        ),
        (facts(), Done(), "pending", "being deployed"),
        (
            facts(attempts=[attempt("web", permanent=True)]),
            Done(),
            "failure",
            "failed: web: it failed and waits for a change: no such image",
        ),
        (
            facts([release("web", "d0")], rollbacks={"web": ("d1", "it crashed")}),
            Done(),
            "failure",
            "rolled back: web: its new release was not healthy: it crashed",
        ),
        (
            facts([WEB], [container("web-1", "web", "web", health="unhealthy")]),
            Done(),
            "failure",
            "degraded: web: web-1 is unhealthy",
        ),
        (
            facts([WEB, release("old")], holds=[hold("old", Reason.CLIFF, person=True)]),
            Done(),
            "pending",
            "waits for a person: old: exceeds teardown_limit: why",
        ),
        (  # a container that nobody declared says nothing of the commit
            facts(
                [WEB],
                [container("web-1", "web", "web"), container("rogue")],
                holds=[hold("rogue", Reason.NOT_ENROLLED, person=True)],
            ),
            Done(),
            "success",
            "nothing to do here",
        ),
        (
            facts([WEB], look=LastLook(LOOKED, "the disk is full")),
            Done(),
            "failure",
            "reconcile failed: the disk is full",
        ),
    ],
)
def test_a_verdict_is_told_in_one_sentence(host: Facts, done: Done, state: str, text: str) -> None:
    assert told(host, done=done) == Report(revision=SHA, state=state, text=text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (
            _held(Reason.SIGNATURE, "by nobody", person=True),
            "not followed: its signature is missing or not trusted: by nobody",
        ),
        (
            _held(Reason.TREE, "2b2b2b2: a submodule", subject="lib"),
            "not followed: the commit cannot be checked out safely: 2b2b2b2: a submodule",
        ),
        (
            _held(Reason.LIST_IN_DOUBT, "2b2b2b2: no list"),
            "not followed: what is declared is in doubt: 2b2b2b2: no list",
        ),
    ],
)
def test_a_commit_that_is_refused_fails_with_the_reason(host: Facts, text: str) -> None:
    assert told(host) == Report(revision=NEWER, state="failure", text=text)


def test_a_rewritten_head_fails_when_no_remote_shows_the_applied_commit() -> None:
    rewritten = {**SHOWS_NEWER, "relation": "diverged"}
    holds = [hold("gitea", Reason.HISTORY, "2b2b2b2 is elsewhere", person=True)]
    found = told(facts([WEB], remotes=[rewritten], holds=holds))
    assert found is not None
    assert (found.revision, found.state) == (NEWER, "failure")
    assert found.text.startswith("not followed: the remote's history does not continue")
    second = {**GITEA, "name": "github"}
    assert told(facts([WEB], remotes=[rewritten, second], holds=holds)) == replace(
        GOOD, text="nothing to do here"
    )


def test_a_refused_commit_that_is_taken_back_is_told_of_no_more() -> None:
    back = replace(_held(Reason.TREE, "x"), remotes=(GITEA,))
    assert subject(back, held.current(back)) == SHA


def test_it_is_pending_from_the_moment_in_which_it_is_taken() -> None:
    taken = replace(facts([WEB], remotes=[SHOWS_NEWER]), attempted={"sha": NEWER})
    assert told(taken, ended=False, before=GOOD) == accepted(NEWER)
    working = facts([WEB], working=[action("deploy", "web")])
    assert told(working, ended=False, before=replace(GOOD, revision=NEWER)) == accepted(SHA)


@pytest.mark.parametrize(
    ("host", "ended"),
    [
        (facts(), True),  # a repair
        (facts([WEB], working=[action("restart", "web")]), False),
        (facts([WEB], look=LastLook(LOOKED, "the disk is full")), True),
        (replace(facts([WEB]), containers=None), True),
        (facts([WEB], remotes=[SILENT]), True),
        (facts([WEB], suspensions=[Suspension(None, None, "", LOOKED)]), True),
    ],
)
def test_what_was_deployed_well_stays_so_while_nothing_else_is_known(
    host: Facts, *, ended: bool
) -> None:
    assert told(host, ended=ended, before=GOOD) is None


def test_what_becomes_ill_later_is_told() -> None:
    ill = facts([WEB], [container("web-1", "web", "web", health="unhealthy")])
    found = told(ill, before=GOOD)
    assert found is not None
    assert found.state == "failure"


def test_a_manager_that_stands_by_leaves_it_to_the_leader() -> None:
    assert told(replace(facts([WEB]), standby="node2")) is None


def test_a_sentence_is_one_line_that_every_forge_takes() -> None:
    found = told(_held(Reason.TREE, "a\nb\x1b[31m" + "x" * 500))
    assert found is not None
    assert len(found.text) == LONGEST
    assert found.text.isprintable()
    assert found.text.endswith("…")


# --- sending ---


class Told:
    """A host whose standings a test tells, and the agent beside it."""

    def __init__(self, place: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place, self.forge, self.patch = place, forge, monkeypatch
        self.token_file = place / "token"
        self.write_token(TOKEN)
        self.settings = CommitStatus(
            forge=forge.kind,  # type: ignore[arg-type]
            url=forge.url,
            repository="ops/homelab",
            token_file=self.token_file,
            plain_http=True,
        )
        self.standings = Standings()
        self.trouble = Trouble()

    def write_token(self, token: str) -> None:
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(token)

    def quickly(self) -> None:
        """Try again at once."""
        self.patch.setattr(commit_status, "_RETRY", Backoff(first_s=0.01, longest_s=0.01))
        self.patch.setattr(commit_status, "_REFUSED", Backoff(first_s=0.01, longest_s=0.01))

    def tell(self, host: Facts, *, ended: bool = True) -> None:
        holds = held.current(host)
        stacks = stack_state.states(host, holds)
        found = verdict.judge_states(host, holds, stacks)
        self.standings.tell(host, holds, stacks, found, cycle=0.1 if ended else None)

    def run(self, work: Callable[[AsyncJournal], Awaitable[None]]) -> None:
        remote = Remote(name="gitea", url="file:///nowhere")
        config = Config(host="media", remotes=(remote,), commit_status=self.settings)

        async def main() -> None:
            journal = AsyncJournal(Journal(self.place / "journal.db"))
            running = Running(
                standings=self.standings,
                config=config,
                journal=journal,
                trouble=self.trouble,
                words=Lru(1),
                alive=lambda: True,
                ready=lambda: True,
                wake=lambda: None,
            )
            with anyio.fail_after(60):
                async with reporting(running):
                    await work(journal)
            journal.close()

        anyio.run(main)


@pytest.fixture(params=["gitea", "github"])
def host(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Told]:
    with forges.forge(request.param) as forge:
        yield Told(tmp_path, forge, monkeypatch)
    assert not forge.faults


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  of another thread, too
        await anyio.sleep(0.01)


async def _deployed(journal: AsyncJournal, revision: str = SHA) -> None:
    async with journal.recording(Action.DEPLOY, "web", Reason.CHANGED, revision=revision):
        pass


def test_a_commit_is_pending_at_once_and_then_a_success_by_the_documented_request(
    host: Told,
) -> None:
    host.settings = replace(host.settings, page_url="https://media.example.org/")

    async def work(journal: AsyncJournal) -> None:
        await journal.put("attempted", {"sha": SHA})
        await until(lambda: journal.news._journal is not None)  # it listens
        async with journal.recording(Action.ACCEPT, "media", Reason.NEW_HEAD, revision=SHA):
            pass
        await until(lambda: host.forge.states() == ["pending"])
        await _deployed(journal)
        host.tell(facts([WEB]))
        await until(lambda: host.forge.states() == ["pending", "success"])

    host.run(work)
    assert host.forge.told[-1] == {
        "sha": SHA, "state": "success", "context": "commitd/media",
        "description": "deployed web", "target_url": "https://media.example.org/",
    }  # fmt: skip


def test_a_deploy_that_failed_is_told_while_others_are_still_deployed(host: Told) -> None:
    async def deploy(journal: AsyncJournal, sha: str, status: Status, error: str) -> None:
        async with journal.recording(Action.DEPLOY, "web", Reason.NEW, revision=sha) as entry:
            entry.outcome = Outcome(subject="web", status=status, error=error)

    async def work(journal: AsyncJournal) -> None:
        await journal.put("attempted", {"sha": SHA})
        await until(lambda: journal.news._journal is not None)  # it listens
        async with journal.recording(Action.ACCEPT, "media", Reason.NEW_HEAD, revision=SHA):
            pass
        await until(lambda: host.forge.states() == ["pending"])
        await deploy(journal, NEWER, Status.FAILED, "of another commit")
        await deploy(journal, SHA, Status.CANCELLED, "a newer commit came")
        await deploy(journal, SHA, Status.FAILED, "no such image")
        await until(lambda: host.forge.states() == ["pending", "failure"])
        host.tell(facts(), ended=False)  # others are not there yet
        host.tell(facts(attempts=[attempt("web", permanent=True)]))
        await until(lambda: len(host.forge.told) == 3)

    host.run(work)
    assert [each["description"] for each in host.forge.told] == [
        "being deployed",
        "failed: web: no such image",
        "failed: web: it failed and waits for a change: no such image",
    ]


def test_a_restart_tells_nothing_twice_and_another_forge_all_anew(host: Told) -> None:
    async def first(journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        while not await journal.get(SENT):  # noqa: ASYNC110
            await anyio.sleep(0.01)

    async def again(journal: AsyncJournal) -> None:
        await until(lambda: journal.news._journal is not None)
        host.tell(facts([WEB]))
        host.tell(replace(facts([WEB]), attempted={"sha": NEWER}, remotes=(SHOWS_NEWER,)))
        await until(lambda: len(host.forge.told) > 1)

    host.run(first)
    host.run(again)
    assert [each["sha"] for each in host.forge.told] == [SHA, NEWER]
    host.settings = replace(host.settings, page_url="https://elsewhere.example.org/")

    async def moved(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: len(host.forge.told) == 3)

    host.run(moved)


def test_what_need_not_be_told_any_more_is_no_trouble(host: Told) -> None:
    ill = facts([WEB], [container("web-1", "web", "web", health="unhealthy")])

    async def work(_: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: host.forge.states() == ["success"])
        host.forge.answers += [(500, {})]
        host.tell(ill)
        await until(lambda: SENT in host.trouble.current)
        host.tell(facts([WEB]))
        await until(lambda: SENT not in host.trouble.current)

    host.run(work)
    assert host.forge.states() == ["success"]


def test_after_an_outage_only_the_newest_is_told(host: Told) -> None:
    host.quickly()
    host.forge.answers += [(500, {})] * 3

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts(attempts=[attempt("web", permanent=True)]))
        await until(lambda: host.forge.asked > 0)
        host.tell(replace(facts([WEB]), attempted={"sha": NEWER}, remotes=(SHOWS_NEWER,)))
        await until(lambda: bool(host.forge.told))
        await until(lambda: not host.trouble.current)

    host.run(work)
    assert [each["sha"] for each in host.forge.told] == [NEWER]


@pytest.mark.parametrize("headers", [{"Retry-After": "3000"}, {"Retry-After": "4000"}])
@pytest.mark.parametrize("code", [429, 503, 403])
def test_a_wish_to_be_left_alone_is_granted_for_an_hour_at_most(
    host: Told, code: int, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    host.forge.answers.append((code, headers))

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: bool(host.trouble.current))

    host.run(work)
    assert (host.forge.asked, host.forge.told) == (1, [])
    wished = min(int(headers["Retry-After"]), 3600)
    assert f"again in {wished} s" in caplog.text


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "401: the token in "),
        (403, "403: the token may not do this"),
        (404, "404: there is no ops/homelab with 1a2b3c4 that the token may see"),
        (422, "422: there is no ops/homelab with 1a2b3c4 that the token may see"),
        (200, "200: what answers there is not the API of a forge"),
    ],
)
def test_what_is_refused_is_said_once_and_tried_with_the_next_commit(
    host: Told, code: int, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    host.patch.setattr(commit_status, "_RETRY", Backoff(first_s=0.01, longest_s=0.01))
    host.forge.answers.append((code, {}))

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: bool(host.trouble.current))
        assert words in host.trouble.current[SENT].error
        host.tell(facts([WEB]))
        await anyio.wait_all_tasks_blocked()
        assert host.forge.asked == 1
        host.tell(replace(facts([WEB]), attempted={"sha": NEWER}, remotes=(SHOWS_NEWER,)))
        await until(lambda: not host.trouble.current)

    host.run(work)
    assert [each["sha"] for each in host.forge.told] == [NEWER]
    assert caplog.text.count(words) == 1


def test_the_token_goes_nowhere_else_and_shows_nowhere(
    host: Told, caplog: pytest.LogCaptureFixture
) -> None:
    host.quickly()
    caplog.set_level(logging.DEBUG)
    with forges.forge(host.forge.kind) as elsewhere:
        target = {"Location": f"{elsewhere.url}/api/v1/repos/ops/homelab/statuses/{SHA}"}
        host.forge.answers += [(302, target), (307, target), (308, target), (401, {}), (500, {})]

        async def work(_journal: AsyncJournal) -> None:
            host.tell(facts([WEB]))
            seen = set()
            while not host.forge.told:
                seen |= {failing.error for failing in host.trouble.current.values()}
                await anyio.lowlevel.checkpoint()
            assert any("redirects are not followed" in error for error in seen)
            assert not any(TOKEN in error for error in seen)

        host.run(work)
        assert elsewhere.asked == 0
    assert TOKEN not in caplog.text
    assert TOKEN.encode() not in (host.place / "journal.db").read_bytes()


def test_a_token_that_was_replaced_is_used_at_the_next_try(host: Told) -> None:
    host.quickly()
    host.write_token(OTHER_TOKEN)

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: host.forge.asked > 2)
        assert "401" in host.trouble.current[SENT].error
        host.write_token(TOKEN)
        await until(lambda: host.forge.states() == ["success"])

    host.run(work)


def test_a_token_file_that_others_may_read_is_not_used(host: Told) -> None:
    host.token_file.chmod(0o644)

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: bool(host.trouble.current))

    host.run(work)
    assert host.forge.asked == 0
    assert "chmod 600" in host.trouble.current[SENT].error


def test_a_forge_that_hangs_is_waited_for_with_a_limit_and_holds_up_no_end(host: Told) -> None:
    host.forge.answers.append((0, {}))
    host.quickly()
    host.patch.setitem(http.ask.__kwdefaults__ or {}, "within_s", 0.2)

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: bool(host.trouble.current))
        assert "no answer within" in host.trouble.current[SENT].error
        await until(lambda: host.forge.states() == ["success"])
        host.forge.answers.append((0, {}))
        asked = host.forge.asked
        host.tell(facts([WEB], [container("web-1", "web", "web", health="unhealthy")]))
        await until(lambda: host.forge.asked > asked)  # and the agent ends now

    host.run(work)


def test_changes_of_one_commit_are_paced(host: Told) -> None:
    ill = facts([WEB], [container("web-1", "web", "web", health="unhealthy")])

    async def work(_journal: AsyncJournal) -> None:
        for number in range(commit_status._AT_ONCE + 1):
            host.tell((facts([WEB]), ill)[number % 2])
            await until(lambda: len(host.forge.told) > number)  # noqa: B023
        host.tell(ill)
        await anyio.wait_all_tasks_blocked()
        asked = host.forge.asked
        host.tell(replace(facts([WEB]), attempted={"sha": NEWER}, remotes=(SHOWS_NEWER,)))
        await until(lambda: host.forge.told[-1]["sha"] == NEWER)
        assert host.forge.asked == asked + 1

    host.run(work)


def test_what_was_done_for_a_commit_is_told_also_if_an_agent_before_did_it(host: Told) -> None:
    mine = Journal(host.place / "journal.db")
    for kind, name, status in (
        (Action.DEPLOY, "web", Status.SUCCEEDED),
        (Action.DEPLOY, "db", Status.FAILED),
        (Action.RESTART, "app", Status.SUCCEEDED),
        (Action.REMOVE_STACK, "old", Status.SUCCEEDED),
    ):
        number = mine._begin(kind, name, Reason.CHANGED, revision=SHA)
        mine._finish(number, Outcome(subject=name, status=status), 1.0)
    mine.close()

    async def work(_journal: AsyncJournal) -> None:
        host.tell(facts([WEB]))
        await until(lambda: bool(host.forge.told))

    host.run(work)
    assert host.forge.told[0]["description"] == "deployed web; removed old"


def test_only_a_server_whose_certificate_is_trusted_gets_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = git_servers.certificate(tmp_path, days=1)
    with forges.forge("gitea", certificate) as forge:
        host = Told(tmp_path, forge, monkeypatch)
        host.quickly()

        async def refused(_journal: AsyncJournal) -> None:
            host.tell(facts([WEB]))
            await until(lambda: bool(host.trouble.current))
            assert "certificate is not trusted" in host.trouble.current[SENT].error

        host.run(refused)
        assert forge.asked == 0
        host.settings = replace(host.settings, ca_file=certificate)

        async def trusted(_journal: AsyncJournal) -> None:
            await until(lambda: forge.states() == ["success"])

        host.run(trusted)
