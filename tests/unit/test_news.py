"""Events of the journal: none is missed, none is told twice, and nobody waits for who reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from agent.adapters.state import journal, news, schema
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.domain.errors import CommitdError
from agent.domain.outcome import Action, Outcome, Reason, Status


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def actions(path: Path) -> Iterator[AsyncJournal]:
    actions = AsyncJournal(Journal(path))
    yield actions
    actions.close()


async def _act(actions: AsyncJournal, subject: str) -> None:
    async with actions.recording(Action.DEPLOY, subject, Reason.NEW):
        pass


def test_each_action_is_told_as_it_was_then(actions: AsyncJournal) -> None:
    async def main() -> None:
        async with actions.recording(Action.DEPLOY, "web", Reason.NEW) as entry:
            [begun] = await actions.news.after(0)
            assert (begun.ended, begun.entry.status) == (False, "running")
            entry.outcome = Outcome(subject="web", status=Status.FAILED, error="it is not well")
        told = await actions.news.after(0)
        assert told[0] == begun
        assert [(each.seq, each.ended, each.entry.status) for each in told] == [
            (1, False, "running"), (2, True, "failed"),
        ]  # fmt: skip
        assert told[1].as_json()["error"] == "it is not well"

    anyio.run(main)


def test_who_waits_hears_of_what_comes_at_once(
    actions: AsyncJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "_LOOK_S", 60.0)
    heard: list[list[int]] = []

    async def main() -> None:
        async def wait() -> None:
            heard.append([event.seq for event in await actions.news.after(2)])

        await _act(actions, "before")
        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:  # noqa: TID251  nothing raises here
                group.start_soon(wait)
                group.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                await _act(actions, "web")

    anyio.run(main)
    assert [seqs[0] for seqs in heard] == [3, 3]


def test_what_another_process_writes_is_told_as_well(actions: AsyncJournal, path: Path) -> None:
    async def main() -> None:
        other = AsyncJournal(Journal(path))
        with anyio.fail_after(120):
            async with anyio.create_task_group() as group:  # noqa: TID251  nothing raises here
                group.start_soon(actions.news.after, 0)
                await anyio.wait_all_tasks_blocked()
                await _act(other, "web")
        other.close()

    anyio.run(main)


def test_a_read_is_bounded_and_its_cursor_goes_on(
    actions: AsyncJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "AT_ONCE", 3)

    async def main() -> None:
        for number in range(4):
            await _act(actions, f"web{number}")
        seq, seen = 0, []
        while seq < await actions.news.newest():
            events = await actions.news.after(seq)
            assert len(events) <= 3
            seen += [event.seq for event in events]
            seq = seen[-1]
        assert seen == list(range(1, 9))

    anyio.run(main)


def test_reading_waits_for_nobody_who_writes(actions: AsyncJournal) -> None:
    async def main() -> None:
        await _act(actions, "web")
        with anyio.fail_after(120), actions._journal._transaction() as db:
            db.execute("UPDATE actions SET error = 'half done'")
            assert (await actions.news.after(1))[0].entry.error is None

    anyio.run(main)


def test_what_a_killed_agent_left_open_ends_by_an_event(path: Path) -> None:
    killed = Journal(path)
    killed._begin(Action.DEPLOY, "web", Reason.NEW)
    killed.close()
    again = Journal(path)
    assert again.close_open_actions() == 1
    begun, ended = again.events(after=0, limit=10)
    assert (begun.ended, ended.ended, ended.entry.status) == (False, True, "cancelled")
    again.close()


def test_a_journal_of_the_version_before_has_no_old_stories(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        before = schema.MIGRATIONS.index(schema.EVENTS)
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:before])
        Journal(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "INSERT INTO actions (at, action, subject, reason, cause)"
            " VALUES ('t', 'deploy', 'web', 'new', '[]')"
        )
    again = Journal(path)
    assert [entry.subject for entry in again.history()] == ["web"]
    assert (again.newest_event(), again.events(after=0, limit=10)) == (0, [])
    again.close()


def test_events_are_forgotten_with_their_actions_and_their_numbers_never_come_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Journal(path)
    number = mine._begin(Action.DEPLOY, "old", Reason.NEW)
    mine._finish(number, Outcome(subject="old", status=Status.SUCCEEDED), 1.0)
    monkeypatch.setattr(journal, "ACTIONS_KEPT", timedelta(seconds=-1))
    assert mine.prune() == 1
    assert (mine.events(after=0, limit=10), mine.newest_event()) == ([], 2)
    mine._begin(Action.DEPLOY, "new", Reason.NEW)
    assert [event.seq for event in mine.events(after=2, limit=10)] == [3]
    mine.close()


def test_a_cursor_of_a_journal_that_was_lost_begins_with_the_new_one(path: Path) -> None:
    mine = Journal(path)
    mine._begin(Action.DEPLOY, "web", Reason.NEW)
    assert [event.seq for event in mine.events(after=99, limit=10)] == [1]
    mine.close()


def test_a_journal_that_cannot_be_read_is_the_readers_trouble_alone(
    actions: AsyncJournal, path: Path
) -> None:
    path.rename(path.with_name("elsewhere.db"))

    async def main() -> None:
        with pytest.raises(CommitdError):
            await actions.news.after(0)
        await _act(actions, "web")

    anyio.run(main)
    assert actions._journal.history()[0].status == "succeeded"
