"""What is kept for those who ask later: when the agent looked, and what it held."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.source.remote_status import Remotes, recall
from agent.control.status import looks
from agent.control.status.looks import Looks
from agent.domain.errors import TransientError
from agent.domain.outcome import Action, Outcome, Reason, Status
from agent.domain.reconcile.actions import Hold
from agent.domain.source.decide import Answer, Relation
from agent.domain.status.facts import LastLook


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.db")


def test_the_last_look_outlives_the_agent_and_the_machine(journal: Journal, tmp_path: Path) -> None:
    async def main() -> None:
        assert looks.last(journal, tmp_path) == LastLook()
        mine = Looks(AsyncJournal(journal), tmp_path, LastLook())
        first = await mine.ended()
        assert first.at
        assert first.error is None
        assert looks.last(journal, tmp_path) == first
        assert journal.get("look") is None  # an idle agent writes to no disk
        await mine.keep()
        (tmp_path / "look.json").unlink()
        assert looks.last(journal, tmp_path) == first
        (tmp_path / "look.json").write_text("[1]")  # of another version
        assert looks.last(journal, tmp_path) == first

    anyio.run(main)


def test_a_cycle_that_failed_is_no_look(journal: Journal, tmp_path: Path) -> None:
    async def main() -> None:
        looked = "2026-01-02T03:04:05.000Z"
        (tmp_path / "look.json").write_text(f'{{"at": "{looked}", "error": null}}')
        mine = Looks(AsyncJournal(journal), tmp_path, looks.last(journal, tmp_path))
        failed = await mine.ended("the disk is full")
        assert failed == LastLook(looked, "the disk is full")
        assert looks.last(journal, tmp_path) == failed
        (tmp_path / "look.json").unlink()
        assert looks.last(journal, tmp_path) == failed  # for that it writes to the disk
        again = await mine.ended()
        assert again.error is None
        assert again.at
        assert again.at > looked

    anyio.run(main)


def test_a_journal_that_cannot_be_written_does_not_hide_that_it_fails(
    journal: Journal, tmp_path: Path
) -> None:
    async def main() -> None:
        mine = Looks(AsyncJournal(journal), tmp_path, LastLook())
        journal._db.execute("PRAGMA query_only = 1")
        with pytest.raises(TransientError):
            await mine.ended("the disk is full")
        assert looks.last(journal, tmp_path).error == "the disk is full"

    anyio.run(main)


def test_how_an_older_head_stands_is_not_said_of_a_newer_one(
    journal: Journal, tmp_path: Path
) -> None:
    """A cycle compares the heads of its beginning, and a remote may show another meanwhile."""
    mine = Remotes(recall(journal, ["gitea"]), AsyncJournal(journal), tmp_path)
    mine.tell("gitea", Answer.HEAD, sha="b" * 40, error=None, at="2026-01-02T03:04:05Z")
    mine.relate("gitea", "a" * 40, Relation.BEHIND, 1)
    before = mine.seen["gitea"]
    mine.relate("gitea", "b" * 40, Relation.SAME, 0)
    after = mine.seen["gitea"]
    assert (before.relation, after.relation) == (Relation.UNKNOWN, Relation.SAME)


def test_a_hold_that_is_not_found_any_more_is_over_unless_it_is_only_found_later(
    journal: Journal,
) -> None:
    invalid, storm = Hold("web", Reason.INVALID, "x"), Hold("undeclared", Reason.RATE, "x")
    assert journal.keep_holds([invalid, storm]) == [invalid, storm]
    assert journal.keep_holds([], found_later=[Reason.RATE]) == []
    assert [hold["subject"] for hold in journal.holds()] == ["undeclared"]
    assert journal.keep_holds([]) == []
    assert journal.holds() == []


def test_what_is_begun_and_not_ended_is_unfinished(journal: Journal) -> None:
    first, second = (
        journal._begin(Action.DEPLOY, "a", Reason.NEW),
        journal._begin(Action.EVICT, "b", Reason.NO_PROJECT),
    )
    assert [entry.id for entry in journal.unfinished()] == [first, second]
    journal._finish(first, Outcome(subject="", status=Status.SUCCEEDED), 0.0)
    assert [entry.id for entry in journal.unfinished()] == [second]
    journal.close_open_actions()
    assert journal.unfinished() == []
