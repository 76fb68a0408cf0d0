"""The outages of remotes, as they are told later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio

from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.source.remote_status import Remotes, last_outages, recall
from agent.domain.source.decide import Answer
from agent.domain.source.outages import Outage, Outages, told

GONE, LATER, BACK = "2026-01-02T09:00:00Z", "2026-01-02T09:01:00Z", "2026-01-02T10:00:00Z"


def _told(known: Outages, down: str | None, at: str) -> Outages:
    return told(known, "gitea", down_since=down, at=at, error="refused")


def test_what_is_over_within_a_minute_is_no_outage() -> None:
    assert _told((), GONE, "2026-01-02T09:00:59Z") == ()
    assert _told((), None, BACK) == ()


def test_an_outage_begins_with_the_first_silence_and_ends_with_the_first_answer() -> None:
    silent = _told((), GONE, LATER)
    assert silent == (Outage(remote="gitea", since=GONE, until=None, error="refused"),)
    assert _told(silent, GONE, BACK) is silent
    [ended] = _told(silent, None, BACK)
    assert (ended.since, ended.until) == (GONE, BACK)
    assert _told((ended,), None, BACK) == (ended,)


def test_one_that_was_not_seen_to_end_ends_where_the_next_begins() -> None:
    silent = _told((), GONE, LATER)
    first, second = _told(silent, BACK, "2026-01-02T10:05:00Z")
    assert (first.until, second.since, second.until) == (BACK, BACK, None)


def test_each_remote_has_its_own_and_the_oldest_are_forgotten() -> None:
    known: Outages = ()
    for number in range(300):
        known = told(known, f"r{number}", down_since=GONE, at=BACK, error=None)
    assert len(known) == 200
    assert known[-1].remote == "r299"


def test_outages_are_in_the_journal_and_go_on_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")

    def remotes() -> Remotes:
        seen = recall(journal, ["gitea"])
        return Remotes(seen, AsyncJournal(journal), tmp_path / "run", last_outages(journal))

    def ask(asked: Remotes, answer: Answer, at: str) -> Any:
        asked.tell("gitea", answer, sha=None, error="refused", at=at)
        anyio.run(asked.save)
        return [(each.since, each.until) for each in last_outages(journal)]

    first = remotes()
    assert ask(first, Answer.DOWN, GONE) == []
    assert ask(first, Answer.DOWN, LATER) == [(GONE, None)]
    assert ask(remotes(), Answer.HEAD, BACK) == [(GONE, BACK)]
    journal.put("outages", [{"what": "another version"}])
    assert last_outages(journal) == ()
    journal.close()
