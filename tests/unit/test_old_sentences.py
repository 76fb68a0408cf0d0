"""A journal of the version that wrote sentences stays readable."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from agent.adapters.state import schema
from agent.adapters.state.journal import Journal
from agent.domain.outcome import Action, Cause, CauseKind, Reason

_BEFORE = 4
"""The version of the schema."""


def of(
    kind: str, stack: str | None = None, service: str | None = None, name: str | None = None
) -> Cause:
    return Cause(
        kind=CauseKind(kind),
        stack=stack,
        service=service,
        name=name,
        before="1",
        after="2",
        commit="sha",
    )


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as db:
        for script in schema.MIGRATIONS[:_BEFORE]:
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


@pytest.mark.parametrize(
    ("action", "reason", "path", "cause"),
    [
        ("deploy", "its files changed", "stacks/web/a file", of("file", name="stacks/web/a file")),
        ("deploy", "its files changed", "web/app image", of("image", "web", "app")),
        (
            "restart",
            "what runs is not what was deployed",
            "web/app state",
            of("state", "web", "app"),
        ),
        (
            "restart",
            "what runs is not what was deployed",
            "web/app network edge",
            of("network", "web", "app", "edge"),
        ),
        (
            "restart",
            "what runs is not what was deployed",
            "web/app Memory",
            of("setting", "web", "app", "Memory"),
        ),
        (
            "restart",
            "app: a container whose namespaces it shares was started again: restart",
            "web/vpn",
            of("restarted", "web", "vpn"),
        ),
        (
            "restart",
            "app: a container whose namespaces it shares was started again: restart",
            "gluetun",
            of("restarted", name="gluetun"),
        ),
        (
            "restart",
            "app: undone from outside during the health gate",
            "web/app",
            of("state", "web", "app"),
        ),
        ("deploy", "declared and not there yet", "web containers", of("adopted", "web")),
        ("rollback", "it crashed", "release", of("release")),
        ("accept", "the remote has a new commit", "gitea/main", of("commit", name="gitea/main")),
        ("accept", "tracked files were edited on the host", "README", of("file", name="README")),
        (
            "remove-stack",
            "no longer declared",
            "host/media/stacks.yaml",
            of("list", name="host/media/stacks.yaml"),
        ),
        ("remove-stack", "no longer declared", "volume a_b", of("volume", name="a_b")),
        (
            "evict",
            "its time was over",
            "container 0123456789ab",
            of("container", name="0123456789ab"),
        ),
        ("deploy", "the moon was full", "the moon", of("unknown", name="the moon")),
    ],
)
def test_an_old_cause_gets_its_kind_and_fields(
    old: Path, action: str, reason: str, path: str, cause: Cause
) -> None:
    written = [{"path": path, "before": "1", "after": "2", "commit": "sha"}]
    _insert(
        old,
        "INSERT INTO actions (at, action, subject, reason, cause) VALUES ('t', ?, 'web', ?, ?)",
        (action, reason, json.dumps(written)),
    )
    [entry] = Journal(old).history()
    assert entry.cause == (cause,)


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
        "1": (Reason.NO_PROJECT, "belongs to no stack"),
        "2": (Reason.OTHER, "nobody remembers"),
    }
