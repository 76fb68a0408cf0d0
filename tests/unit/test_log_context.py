"""What a line of the log is about is known wherever it is written, and trouble is said once."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from agent.adapters import log_context
from agent.adapters.host import peer
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.status.verdict_log import VerdictLog
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.outcome import Action, Outcome, Reason, Status
from agent.domain.status.verdict import HostTrouble, State, Verdict, VerdictKind
from agent.surface.cli import history

SHA = "a" * 40


def test_tasks_and_threads_of_an_action_know_what_it_is_about(tmp_path: Path) -> None:
    found: dict[str, dict[str, object]] = {}

    def note(name: str) -> None:
        found[name] = dict(log_context.current())

    async def task() -> None:
        note("task")
        await anyio.to_thread.run_sync(note, "thread")

    async def main() -> None:
        file = Journal(tmp_path / "journal.db")
        journal = AsyncJournal(file)
        with log_context.about(cycle=7):
            async with (
                journal.recording(Action.DEPLOY, "web", Reason.CHANGED, revision=SHA),
                task_group() as group,
            ):
                group.start_soon(task)
                async with journal.recording(Action.EVICT, "old", Reason.SERVICE_LEFT):
                    note("inner")
            note("after")
        journal.close()

    anyio.run(main)
    assert found["task"] == found["thread"] == {
        "cycle": 7, "stack": "web", "subject": "web", "revision": SHA, "reason": "changed",
        "action": "deploy",
    }  # fmt: skip
    assert (found["inner"]["subject"], found["inner"]["stack"]) == ("old", "web")
    assert found["after"] == {"cycle": 7}
    assert log_context.current() == {}


def _lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(each.levelname, each.getMessage()) for each in caplog.records]


def test_an_action_is_one_line_and_a_hold_for_the_same_error_no_second_trouble(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        journal = AsyncJournal(Journal(tmp_path / "journal.db"))
        with pytest.raises(CommitdError):
            async with journal.recording(Action.DEPLOY, "web", Reason.NEW, revision=SHA):
                raise PermanentError("no image")
        held = Outcome(subject="web", status=Status.HELD, error="no image")
        async with journal.recording(Action.HOLD, "web", Reason.BACKOFF, stack="web") as entry:
            entry.outcome = held
        assert journal.log.take_troubled() == {"web"}
        assert journal.log.take_troubled() == set()
        journal.close()

    with caplog.at_level(logging.INFO, "commitd"):
        anyio.run(main)
    assert _lines(caplog) == [
        ("ERROR", "web: deploying aaaaaaa failed: no image [new]"),
        ("INFO", "held: web: it failed and waits for its next try [retry-pending]"),
    ]


def test_what_a_killed_agent_left_open_has_its_line_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    killed = Journal(path)
    killed._begin(Action.DEPLOY, "web", Reason.NEW, revision=SHA)
    killed.close()

    async def main() -> None:
        journal = AsyncJournal(Journal(path))
        await journal.close_open_actions()
        await journal.close_open_actions()
        journal.close()

    with caplog.at_level(logging.INFO, "commitd"):
        anyio.run(main)
    said = "web: deploying aaaaaaa was cancelled: the agent ended meanwhile [new]"
    assert _lines(caplog) == [("INFO", said)]


def _verdict(state: State, line: str, *subjects: str) -> Verdict:
    troubles = tuple(HostTrouble(VerdictKind.FAILED, each, "") for each in subjects)
    return Verdict(state, line, troubles)


def test_a_verdict_is_said_when_it_changes_and_warns_only_of_what_was_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = VerdictLog()
    with caplog.at_level(logging.INFO, "commitd"):
        log.note(_verdict(State.IN_SYNC, "in sync"), ())
        log.note(_verdict(State.IN_SYNC, "in sync"), ())
        log.note(_verdict(State.FAILED, "failed: web", "web"), {"web", "rogue"})
        log.note(_verdict(State.FAILED, "failed: db, web", "db", "web"), {"db"})
        log.note(_verdict(State.FAILED, "degraded: mail", "mail"), ())
        log.note(_verdict(State.FAILED, "failed: web again", "web"), ())
        log.note(_verdict(State.FAILED, "reconcile failed"), ())
        log.note(_verdict(State.UNKNOWN, "not known"), ())
        log.note(_verdict(State.WORKING, "deploying web"), ())
    assert _lines(caplog) == [
        ("INFO", "in sync"),
        ("INFO", "failed: web"),
        ("INFO", "failed: db, web"),
        ("WARNING", "degraded: mail"),
        ("WARNING", "failed: web again"),
        ("WARNING", "reconcile failed"),
        ("WARNING", "not known"),
        ("INFO", "deploying web"),
    ]


def test_who_orders_is_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "4321")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert peer.ordering() == "uid 4321"
    monkeypatch.setenv("SUDO_UID", "1; rm")
    assert peer.ordering() == peer.named(0)
    monkeypatch.setenv("SUDO_UID", "4321")
    monkeypatch.setattr("os.geteuid", lambda: 12345)  # no root: the variable is anybody's
    assert peer.ordering() == "uid 12345"
    assert os.environ["SUDO_UID"]


def test_history_names_who_ordered_something(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(tmp_path / "journal.db")
    number = journal._begin(Action.HOLD, "web", Reason.RETRIED, actor="ada (uid 1000)")
    journal._finish(number, Outcome(subject="web", status=Status.SUCCEEDED), 0.0)
    [entry] = journal.history()
    journal.close()
    assert entry.as_json()["actor"] == "ada (uid 1000)"
    history.show(entry.as_json())
    assert "hold web, ordered by ada (uid 1000)" in capsys.readouterr().out
