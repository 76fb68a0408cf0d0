"""What the agent makes of trouble around it: a program, a disk, a slow remote, its own end."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio
import pytest

from agent.adapters.compose.compose import Compose
from agent.adapters.compose.errors import meaning
from agent.adapters.engine import images
from agent.adapters.engine.engine import Engine, Helpers
from agent.adapters.engine.images import ImageError
from agent.adapters.git.repository import Repository
from agent.adapters.process import Result
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.health.activity import Listener
from agent.control.health.health_gate import Gate
from agent.control.release import failing, starting
from agent.control.release.adoption import Adopter
from agent.control.release.apply import Applier
from agent.control.release.converge import Converger
from agent.control.release.deployment import DeployTools
from agent.control.release.making import Making
from agent.control.release.on_host import HostSteps, HostTools
from agent.control.release.pull import Puller
from agent.control.release.rollback import Restorer
from agent.control.retry import Attempts
from agent.control.secrets.decrypt import SecretKeeper, no_key
from agent.control.source.poller import FIRST_SUSPECT_S, LONGEST_SUSPECT_S, SUSPECT_S, suspect_s
from agent.control.source.remote_status import Remotes, last_answers, recall
from agent.control.stack.ledger import Ledger
from agent.control.stack.operations import Stacks
from agent.control.stack.provision import Provisioner
from agent.control.stack.remover import Remover
from agent.control.stack.revival import Reviver
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.errors import (
    CancelledError,
    CommitdError,
    ConfigError,
    HeldError,
    InterferenceError,
    PermanentError,
    SupersededError,
    TransientError,
)
from agent.domain.outcome import Action, Outcome, Reason, Status
from agent.domain.reconcile.actions import Deploy, RemoveStack
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.source.decide import Answer
from tests.unit import builders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from pathlib import Path

    from anyio.abc import TaskGroup

    from agent.domain.container import Container


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


def _full(journal: Journal) -> None:
    """Let the file grow no more, as on a full disk."""
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")


# --- Compose ---


@pytest.mark.parametrize(
    "said",
    [
        "Error response from daemon: received unexpected HTTP status: 503 Service Unavailable",
        "error parsing HTTP 502 response body: invalid character '<' looking for beginning",
        'invalid mount config for type "bind": bind source path does not exist: /mnt/nas',
        'failed to resolve reference "r.example/x:1": unexpected status from HEAD request: 503',
        "something nobody has seen before",
    ],
)
def test_an_outage_of_registry_or_engine_is_never_for_good(said: str) -> None:
    error = meaning(Result(1, b"", said.encode()), (), reading=False)
    assert isinstance(error, TransientError)


@pytest.mark.parametrize(
    "said",
    [
        "manifest for r.example/x:1 not found: manifest unknown",
        "pull access denied for x, repository does not exist or may require 'docker login'",
        'failed to resolve reference "r.example/x:1": r.example/x:1: not found',
    ],
)
def test_an_image_that_is_not_there_is_told_apart(said: str) -> None:
    assert isinstance(images._meaning("r.example/x:1", said), ImageError)


def test_only_a_file_that_compose_cannot_read_waits_for_a_change() -> None:
    result = Result(1, b"", b"validating compose.yaml: services.app is not allowed")
    assert isinstance(meaning(result, (), reading=True), PermanentError)
    assert isinstance(meaning(result, (), reading=False), TransientError)


@pytest.mark.parametrize("reading", [True, False])
def test_what_compose_quotes_of_a_secret_is_masked(reading: bool) -> None:
    said = b'validating compose.yaml: services.app.ports: invalid value "correct-horse"'
    error = meaning(Result(1, b"", said), ("correct-horse",), reading=reading)
    assert "correct-horse" not in str(error)
    assert "[redacted]" in str(error)


# --- the journal's file ---


def test_a_full_disk_is_trouble_that_passes(journal: Journal) -> None:
    _full(journal)
    with pytest.raises(TransientError, match="the journal cannot be written: "):
        journal.put("large", "x" * 100_000)
    journal._db.execute("PRAGMA max_page_count = 100000")
    journal.put("large", "x" * 100_000)
    assert len(journal.get("large")) == 100_000


def test_a_file_that_is_no_journal_or_a_newer_one_waits_for_a_person(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_text("no database, but long enough to be taken for one\n" * 100)
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for path in (other, newer):
        with pytest.raises(ConfigError):
            Journal(path)
    with pytest.raises(ConfigError, match="no journal yet"):
        Journal(tmp_path / "none.db", read_only=True)


def test_a_journal_that_cannot_be_opened_now_may_be_later(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="the journal cannot be opened"):
        Journal(tmp_path / "not mounted" / "journal.db")


# --- stacks side by side ---


async def _no_contents(_: Mapping[str, str]) -> dict[str, bytes]:
    return {}


async def _nobody_stays(_: Container) -> None:
    return None


def _converger(tmp_path: Path, journal: Journal, beats: list[str], *, stopping: bool) -> Converger:
    """One whose engine and Compose are not there."""
    engine = Engine("unix:///nowhere")
    nobody = Listener(engine, cast("TaskGroup", None))
    compose = Compose(tmp_path / "no-compose", "unix:///nowhere", 1.0)
    store = PlaintextStore(tmp_path, tmp_path / "run", state=tmp_path)
    actions = AsyncJournal(journal)
    secrets = SecretKeeper(store, actions, None, no_key, _no_contents)
    repository = Repository(tmp_path, "main", tmp_path / "askpass")
    stacks, attempts = (
        Stacks(compose, engine, actions, secrets, lambda: None, agent=AgentPlaces()),
        Attempts(actions),
    )
    remover = Remover(compose, engine, actions, lambda: None, str(tmp_path))
    making = Making(Ledger(engine, actions), remover, engine, _nobody_stays, secrets.link)
    tools = starting.StartTools(
        stacks=stacks,
        making=making,
        remover=remover,
        provisioner=Provisioner(engine, tuple),
        journal=actions,
        attempts=attempts,
        stopping=lambda: stopping,
    )
    return Converger(
        DeployTools(
            steps=HostSteps(
                HostTools(
                    stacks=stacks,
                    remover=remover,
                    applier=Applier(tools, Gate(engine, nobody, 0.1, lambda: None), frozenset),
                    puller=Puller(engine, lambda: None, 1.0, lambda *_: None),
                    adopter=Adopter(compose, engine),
                    journal=actions,
                    attempts=attempts,
                    reviver=Reviver(
                        engine,
                        stacks.starts,
                        attempts,
                        store.foreign_link,
                        stopped=tuple,
                        stopping=lambda: stopping,
                        unsettled=lambda: False,
                    ),
                )
            ),
            restorer=Restorer(repository, actions, secrets, "media"),
            journal=actions,
            attempts=attempts,
        ),
        remover,
        parallel=1,
        pulse=lambda: beats.append("beat"),
        stopping=lambda: stopping,
    )


def test_what_fails_unexpectedly_is_an_outcome_of_its_own(tmp_path: Path, journal: Journal) -> None:
    beats: list[str] = []
    converger = _converger(tmp_path, journal, beats, stopping=False)  # its engine was not entered
    removals = [RemoveStack(project=name, reason=Reason.LEFT) for name in ("one", "two")]
    outcomes = anyio.run(converger.remove, removals, builders.revision())
    assert [(o.subject, o.status) for o in outcomes] == [
        ("one", Status.FAILED),
        ("two", Status.FAILED),
    ]
    assert {o.error for o in outcomes} == {"unexpected RuntimeError"}
    assert len(beats) == 2


def test_a_journal_that_cannot_be_written_fails_the_stack_and_nothing_else(
    tmp_path: Path, journal: Journal
) -> None:
    converger = _converger(tmp_path, journal, [], stopping=False)
    journal._db.execute("PRAGMA query_only = 1")
    deploys = [Deploy(builders.stack(name), Reason.NEW) for name in ("one", "two")]
    outcomes = anyio.run(
        partial(converger.deploy, seen=frozenset(), doubt=False), deploys, builders.revision()
    )
    assert [o.status for o in outcomes] == [Status.FAILED, Status.FAILED]
    assert "the journal cannot be written" in str(outcomes[0].error)


def test_a_stack_that_was_not_begun_when_the_agent_stops_is_left_alone(
    tmp_path: Path, journal: Journal
) -> None:
    converger = _converger(tmp_path, journal, [], stopping=True)
    deploys = [Deploy(builders.stack("one"), Reason.NEW)]
    [outcome] = anyio.run(
        partial(converger.deploy, seen=frozenset(), doubt=False), deploys, builders.revision()
    )
    assert (outcome.status, outcome.error) == (Status.CANCELLED, "the agent is stopping")
    assert journal.history() == []


def test_failures_to_take_a_stack_down_come_later_and_later(journal: Journal) -> None:
    async def main() -> None:
        attempts = Attempts(AsyncJournal(journal))
        for count in (1, 2, 3):
            before = journal.attempts().get("one")
            await attempts.keep_failure(before, "one", "", "it hangs", permanent=False)
            attempt = journal.attempts()["one"]
            assert (attempt.count, attempt.digest, attempt.permanent) == (count, "", False)

    anyio.run(main)


# --- helpers, remotes ---


def test_a_helper_is_known_for_a_while_after_its_end() -> None:
    async def main() -> None:
        helpers = Helpers()
        await helpers.add("first")
        await helpers.discard("first")
        assert helpers.knows("first")
        assert helpers.ids() == frozenset()
        for number in range(1000):
            await helpers.discard(str(number))
        assert not helpers.knows("first")

    anyio.run(main)


def test_what_cannot_be_shown_stops_nothing(
    tmp_path: Path, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    seen = recall(journal, ["gitea"])
    remotes = Remotes(seen, AsyncJournal(journal), tmp_path / "not there")
    remotes.tell("gitea", Answer.HEAD, sha=builders.SHA, error=None, at="now")
    anyio.run(remotes.save)
    anyio.run(remotes.save)
    assert len(caplog.records) == 1
    assert last_answers(journal, ["gitea"], tmp_path / "not there")["gitea"].head == builders.SHA


def test_a_remote_is_suspected_by_its_own_pace() -> None:
    assert suspect_s(None) == FIRST_SUSPECT_S
    assert suspect_s(0.05) == SUSPECT_S
    assert suspect_s(2.0) == 6.0
    assert suspect_s(60.0) == LONGEST_SUSPECT_S


# --- how an action ended, by its error ---


async def _tried(journal: Journal, subject: str, work: Callable[[], Awaitable[None]]) -> Outcome:
    actions = AsyncJournal(journal)
    async with actions.recording(Action.DEPLOY, subject, Reason.NEW) as entry:
        outcome, _ = await Attempts(actions).tries(entry, subject, work)
    return outcome


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, Status.SUCCEEDED),
        (InterferenceError("somebody stopped it"), Status.FAILED),
        (PermanentError("no such key"), Status.FAILED),
        (HeldError("it was suspended meanwhile"), Status.HELD),
        (SupersededError("superseded by a newer commit"), Status.CANCELLED),
        (CancelledError("the agent is stopping"), Status.CANCELLED),
    ],
)
def test_what_is_held_or_cancelled_did_not_fail(
    journal: Journal, error: CommitdError | None, status: Status
) -> None:
    async def work() -> None:
        if error:
            raise error

    outcome = anyio.run(_tried, journal, "web", work)
    assert (outcome.status, outcome.error) == (status, str(error) if error else None)
    retried = 3 if isinstance(error, TransientError) else 1
    assert outcome.attempts == retried


OWN, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        (f"Error response from daemon: No such container: {OWN}", True),
        (f"Error response from daemon: No such container: {OTHER}", False),
        ("Error response from daemon: No such container: vpn", False),
        ("Error response from daemon: container is marked for removal and cannot be started", True),
        (f"cannot join network of a container that is marked for removal: {OTHER}", False),
        (f"Error response from daemon: removal of container {OWN} is already in progress", True),
        (f'Conflict. The container name "/web-app-1" is already in use by container "{OWN}"', True),
        (f'Conflict. The container name "/web" is already in use by container "{OTHER}"', False),
        (f"driver failed programming external connectivity on {OWN}: address in use", False),
    ],
)
def test_what_compose_misses_of_the_stacks_own_was_removed_from_outside(
    said: str, lost: bool
) -> None:
    assert failing.lost(said, {OWN}) is lost


@pytest.mark.parametrize("subject", ["web", None])
def test_what_a_person_suspended_since_it_was_planned_is_not_done(
    journal: Journal, subject: str | None
) -> None:
    done: list[str] = []

    async def work() -> None:
        done.append("web")

    journal.suspend(Suspension(subject, None, "", "2026-01-02T03:04:05Z"))
    outcome = anyio.run(_tried, journal, "web", work)
    assert (outcome.status, outcome.error) == (Status.HELD, "it was suspended meanwhile")
    assert done == []
    if subject:
        anyio.run(_tried, journal, "db", work)
        assert done == ["web"]
