"""A journal of the version that wrote sentences stays readable."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from agent.adapters.state import database
from agent.adapters.state.journal import Journal
from agent.domain.outcome import Action, Reason

_BEFORE = 4
"""The version of the schema."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as db:
        for script in database._MIGRATIONS[:_BEFORE]:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {_BEFORE}")
    db.close()
    return path


def _insert(path: Path, statement: str, *rows: tuple[object, ...]) -> None:
    with sqlite3.connect(path) as db:
        db.executemany(statement, rows)
    db.close()


@pytest.mark.parametrize(
    ("action", "text", "reason", "detail"),
    [
        ("deploy", "declared and not there yet", Reason.NEW, None),
        ("deploy", "it failed, and looks well by now", Reason.LATE, None),
        ("hold", "it would take down too much at once", Reason.CLIFF, None),
        ("hold", "a person resumed it", Reason.RESUMED, None),
        (
            "rollback",
            "web-app-1 has ended with 3",
            Reason.ROLLED_BACK,
            "web-app-1 has ended with 3",
        ),
        ("evict", "its service left the stack", Reason.SERVICE_LEFT, None),
        (
            "evict",
            "its service left the stack, which wants its port 80/tcp",
            Reason.IN_THE_WAY,
            "port 80/tcp",
        ),
        ("evict", "its time was over", Reason.KEEP_EXPIRED, None),
        ("restart", "brought back by commitd undo", Reason.UNDONE, None),
        (
            "restart",
            "app: files that are mounted into it changed: signal:HUP",
            Reason.MOUNTED,
            "signal:HUP app",
        ),
        (
            "restart",
            "app, db: undone from outside during the health gate",
            Reason.INTERFERENCE,
            "app, db",
        ),
        ("deploy", "the moon was full", Reason.OTHER, "the moon was full"),
    ],
)
def test_an_old_reason_becomes_its_code_and_no_text_is_lost(
    old: Path, action: str, text: str, reason: Reason, detail: str | None
) -> None:
    _insert(
        old,
        "INSERT INTO actions (at, action, subject, reason, cause, status)"
        " VALUES ('t', ?, 'web', ?, '[]', 'succeeded')",
        (action, text),
    )
    [entry] = Journal(old).history()
    assert (entry.action, entry.reason, entry.detail) == (Action(action), reason, detail)
    assert reason is not Reason.OTHER or entry.message == text


def test_holds_and_ended_containers_of_before_keep_what_they_say(old: Path) -> None:
    _insert(
        old,
        "INSERT INTO holds VALUES (?, ?, 'why', 1, 't')",
        ("a", "it would take down too much at once"),
        ("b", "nobody remembers"),
    )
    _insert(
        old,
        "INSERT INTO evicted VALUES (?, 'rogue', 'i', 'removed', ?, 't', 5.0, '{}', 0)",
        ("1", "belongs to no Compose project"),
        ("2", "nobody remembers"),
    )
    journal = Journal(old)
    assert {hold["subject"]: hold["reason"] for hold in journal.holds()} == {
        "a": Reason.CLIFF,
        "b": Reason.OTHER,
    }
    kept = {each.id: (each.reason, each.message) for each in journal.kept()}
    assert kept == {
        "1": (Reason.NO_PROJECT, "belongs to no Compose project"),
        "2": (Reason.OTHER, "nobody remembers"),
    }
