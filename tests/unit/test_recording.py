"""Each action that is begun is finished once, with how it ended, whatever ends it."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from agent.adapters.state.actions import JournalEntry
from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import Journal
from agent.control.retry import Attempts
from agent.domain.errors import HeldError, PermanentError, TransientError
from agent.domain.outcome import Action, Cause, CauseKind, EvictionAction, Outcome, Reason, Status

Begin = Callable[[AsyncJournal], AbstractAsyncContextManager[Recording]]
RECORD = Evicted(
    id="c1" * 32,
    name="web",
    image="nginx",
    action=EvictionAction.REMOVED,
    reason=Reason.NO_PROJECT,
    at="2026-01-01",
    remove_at=90.0,
)
CAUSE = Cause(
    kind=CauseKind.CONTAINER, name="c1c1", before="running", after="removed", commit="sha"
)


def _plain(journal: AsyncJournal) -> AbstractAsyncContextManager[Recording]:
    return journal.recording(Action.EVICT, "web", Reason.NO_PROJECT, causes=[CAUSE], revision="sha")


def _eviction(journal: AsyncJournal) -> AbstractAsyncContextManager[Recording]:
    return journal.recording(
        Action.EVICT,
        "web",
        Reason.NO_PROJECT,
        causes=[CAUSE],
        revision="sha",
        ended=(RECORD, {}),
    )


both = pytest.mark.parametrize("begin", [_plain, _eviction])


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


def _only(journal: Journal) -> JournalEntry:
    (entry,) = journal.history()
    assert (entry.action, entry.subject, entry.revision) == ("evict", "web", "sha")
    return entry


def _record(
    journal: Journal, begin: Begin, body: Callable[[Recording], Awaitable[object]]
) -> tuple[str, str | None]:
    """Its status and error, after ``body`` ran in a recording, in a scope that it may cancel."""

    async def main() -> None:
        with anyio.CancelScope():
            async with begin(AsyncJournal(journal)) as entry:
                assert _only(journal).status == "running"
                await body(entry)

    anyio.run(main)
    entry = _only(journal)
    return entry.status, entry.error


@both
def test_a_body_that_returns_has_succeeded_unless_it_says_otherwise(
    journal: Journal, begin: Begin
) -> None:
    assert _record(journal, begin, lambda _: anyio.lowlevel.checkpoint()) == ("succeeded", None)
    assert _only(journal).attempts == 1


def test_a_body_says_how_it_ended_and_more_of_why(journal: Journal) -> None:
    async def body(entry: Recording) -> None:
        await entry.add_causes(
            [Cause(kind=CauseKind.IMAGE, stack="web", before="1", after="2", commit="sha")]
        )
        entry.outcome = Outcome(subject="web", status=Status.HELD, error="it waits", attempts=3)

    assert _record(journal, _plain, body) == ("held", "it waits")
    entry = _only(journal)
    assert (entry.attempts, [cause.subject for cause in entry.cause]) == (
        3,
        ["container c1c1", "web image"],
    )


@both
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TransientError("the engine is away"), "the engine is away"),
        (PermanentError("no such image"), "no such image"),
        (KeyError("a secret"), "unexpected KeyError"),
    ],
)
def test_an_error_of_the_body_is_a_failure_and_is_raised(
    journal: Journal, begin: Begin, error: Exception, said: str
) -> None:
    async def body(entry: Recording) -> None:
        entry.outcome = Outcome(subject="web", status=Status.SUCCEEDED)
        raise error

    with pytest.raises(type(error)):
        _record(journal, begin, body)
    assert (_only(journal).status, _only(journal).error) == ("failed", said)


@both
@pytest.mark.parametrize("at", range(4))
def test_a_body_that_is_cancelled_at_any_await_is_cancelled(
    journal: Journal, begin: Begin, at: int
) -> None:
    done: list[int] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with begin(AsyncJournal(journal)) as entry:
                for step in range(4):
                    if step == at:
                        scope.cancel()
                    await (anyio.lowlevel.checkpoint() if step % 2 else entry.add_causes([CAUSE]))
                    done.append(step)

    anyio.run(main)
    assert _only(journal).status == "cancelled"
    assert done == list(range(at))


def test_a_body_may_say_beforehand_how_it_ends_when_it_is_cancelled(journal: Journal) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with _plain(AsyncJournal(journal)) as entry:
                entry.outcome = Outcome(
                    subject="web", status=Status.CANCELLED, error="the agent is stopping"
                )
                scope.cancel()
                await anyio.lowlevel.checkpoint()

    anyio.run(main)
    assert (_only(journal).status, _only(journal).error) == ("cancelled", "the agent is stopping")


@both
def test_an_action_that_is_cancelled_while_it_is_written_down_is_finished_as_well(
    journal: Journal, begin: Begin
) -> None:
    """The row is there once its thread is through; nobody may leave it open then."""
    done: list[str] = []

    async def main() -> None:
        async def work(scope: anyio.CancelScope) -> None:
            with scope:
                async with begin(actions):
                    await anyio.lowlevel.checkpoint()
                    done.append("the body")

        actions, scope = AsyncJournal(journal), anyio.CancelScope()
        async with anyio.create_task_group() as group:  # noqa: TID251  nothing raises here
            with journal._lock:
                group.start_soon(work, scope)
                while not actions._thread.borrowed_tokens:
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

    anyio.run(main)
    assert (_only(journal).status, done) == ("cancelled", [])


@both
def test_what_was_done_before_the_end_is_written_is_done_although_all_is_cancelled(
    journal: Journal, begin: Begin
) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with begin(AsyncJournal(journal)):
                scope.cancel()

    anyio.run(main)
    assert _only(journal).status == "succeeded"


class _Listener(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__()
        self._heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.append(record.getMessage())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (HeldError("suspended"), ["written: held", "web: evicting was held: suspended"]),
        (PermanentError("no image"), ["written: failed", "web: evicting failed: no image"]),
        (KeyError("x"), ["written: failed", "web: evicting failed: unexpected KeyError"]),
    ],
)
def test_what_the_log_says_of_an_end_is_in_the_journal_by_then(
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    expected: list[str],
) -> None:
    told: list[str] = []
    finish = Journal._finish

    def noted(journal: Journal, number: int, outcome: Outcome, *more: object) -> None:
        finish(journal, number, outcome, *more)  # type: ignore[arg-type]
        told.append(f"written: {outcome.status}")

    async def work() -> None:
        raise error

    async def body(entry: Recording) -> None:
        attempts = Attempts(AsyncJournal(journal))
        entry.outcome, _ = await attempts.tries(entry, "web", work)

    monkeypatch.setattr(Journal, "_finish", noted)
    listener, log = _Listener(told), logging.getLogger("commitd.action")
    log.addHandler(listener)
    try:
        with caplog.at_level(logging.INFO, log.name):
            _record(journal, _plain, body)
    finally:
        log.removeHandler(listener)
    # It also says how long that took, where it took long enough to be told.
    said = [re.sub(r" after \d+\.\d s:", ":", line) for line in told]
    assert said == [expected[0], f"{expected[1]} [no-project]"]


def test_what_is_to_be_said_of_an_end_is_said_although_it_cannot_be_written(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(entry: Recording) -> None:
        entry.outcome = Outcome(subject="web", status=Status.FAILED, error="no such image")
        journal._db.execute("PRAGMA query_only = 1")

    _record(journal, _plain, body)
    said = [re.sub(r" after \d+\.\d s:", ":", r.getMessage()) for r in caplog.records[1:]]
    assert said == ["web: evicting failed: no such image [no-project]"]


@both
def test_what_cannot_be_written_down_is_not_done(journal: Journal, begin: Begin) -> None:
    journal._db.execute("PRAGMA query_only = 1")
    with pytest.raises(TransientError, match="the journal cannot be written"):
        _record(journal, begin, lambda _: pytest.fail("it was done"))
    assert journal.history() == []
    assert journal.evicted() == []


@both
def test_what_was_done_stays_done_when_its_end_cannot_be_written(
    journal: Journal, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(_: Recording) -> None:
        journal._db.execute("PRAGMA query_only = 1")

    assert _record(journal, begin, body) == ("running", None)
    assert "web: succeeded, but the journal cannot be written" in caplog.text
    journal._db.execute("PRAGMA query_only = 0")
    assert journal.close_open_actions() == 1
    assert _only(journal).status == "cancelled"
