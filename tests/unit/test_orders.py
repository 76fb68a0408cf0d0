from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from agent.adapters.state import schema
from agent.adapters.state.evictions import _FIRST_SEEN, _MOST_FIRST_SEEN, Evicted
from agent.adapters.state.journal import Journal
from agent.domain.errors import ConfigError
from agent.domain.outcome import Action, Cause, CauseKind, EvictionAction, Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.release.release import Attempt
from tests.unit.builders import release
from tests.values import replace


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


def test_the_first_sight_of_a_container_is_remembered_of_the_latest_ones(journal: Journal) -> None:
    assert [journal.first_seen("a", 1.0), journal.first_seen("a", 2.0)] == [1.0, 1.0]
    others = {f"b{number}": 3.0 for number in range(1, _MOST_FIRST_SEEN)}
    journal.put(_FIRST_SEEN, journal.get(_FIRST_SEEN) | others)
    assert [journal.first_seen("b", 4.0), journal.first_seen("b1", 4.0)] == [4.0, 3.0]
    assert journal.first_seen("a", 4.0) == 4.0


# --- suspensions ---

WEB = Suspension("web", 100.0, "disk swap", "t")
DB = Suspension("db", None, "", "t")
HOST = Suspension(None, 200.0, "move", "t")


def test_a_suspension_holds_until_its_end_or_until_it_is_resumed(journal: Journal) -> None:
    assert journal.suspensions(0.0) == ()
    for each in (WEB, DB, HOST):
        journal.suspend(each)
    assert journal.suspensions(0.0) == (HOST, DB, WEB)
    assert journal.suspensions(99.9) == (HOST, DB, WEB)
    assert journal.suspensions(100.0) == (HOST, DB)
    assert journal.suspensions(1e12) == (DB,)
    assert journal.resume("db")
    assert not journal.resume("db")
    assert journal.resume(None)
    assert journal.suspensions(0.0) == (WEB,)
    assert not journal.resume(None)


def test_a_second_order_replaces_the_first(journal: Journal) -> None:
    journal.suspend(WEB)
    longer = replace(WEB, until=None, reason="longer", since="u")
    journal.suspend(longer)
    assert journal.suspensions(1e12) == (longer,)
    journal.suspend(WEB)
    assert journal.suspensions(1e12) == ()


def test_what_is_over_is_said_once_and_forgotten(journal: Journal) -> None:
    for each in (WEB, DB, HOST):
        journal.suspend(each)
    assert journal.end_orders(99.9) == []
    assert journal.end_orders(100.0) == ["web"]
    assert journal.end_orders(100.0) == []
    assert journal.end_orders(1e12) == [None]
    assert journal.suspensions(0.0) == (DB,)


def test_what_is_over_can_still_be_resumed_before_it_is_forgotten(journal: Journal) -> None:
    journal.suspend(WEB)
    assert journal.suspensions(150.0) == ()
    assert journal.resume("web")
    assert journal.end_orders(150.0) == []


# --- containers that were brought back ---


def test_what_was_brought_back_is_let_be_until_its_time_is_over(journal: Journal) -> None:
    journal.exempt("c1", 100.0)
    journal.exempt("c2", 200.0)
    assert journal.granted(99.9) == {"c1": 100.0, "c2": 200.0}
    assert journal.granted(100.0) == {"c2": 200.0}
    journal.exempt("c1", 300.0)
    assert journal.granted(250.0) == {"c1": 300.0}
    assert journal.end_orders(250.0) == []
    assert journal.granted(0.0) == {"c1": 300.0}
    assert journal.end_orders(300.0) == []
    assert journal.granted(0.0) == {}


def test_an_approval_is_for_one_commit(journal: Journal) -> None:
    journal.approve("a" * 40)
    journal.approve("a" * 40)
    assert journal.approved() == {"a" * 40}


# --- containers that were ended ---

FIRST = Evicted(
    id="ab12" + "0" * 60,
    name="rogue",
    image="img",
    action=EvictionAction.REMOVED,
    reason=Reason.NO_PROJECT,
    at="2026-01-01T00:00:00Z",
    remove_at=50.0,
)
SECOND = replace(FIRST, id="ab34" + "0" * 60, at="2026-01-02T00:00:00Z", remove_at=60.0)
STOPPED = replace(
    FIRST,
    id="cd56" + "0" * 60,
    name="ab",
    action=EvictionAction.STOPPED,
    at="2026-01-03",
    remove_at=None,
)
REPORTED = replace(
    FIRST, id="ab78" + "0" * 60, action=EvictionAction.REPORTED, at="2026-01-04", remove_at=None
)
CAUSE = Cause(kind=CauseKind.CONTAINER, name="ab12", before="running", after="removed")
POLICY = {"Name": "on-failure", "MaximumRetryCount": 3}


def _begin(journal: Journal, each: Evicted, inspect: Mapping[str, object]) -> None:
    journal._begin(
        Action.EVICT,
        each.name,
        each.reason,
        causes=[CAUSE],
        revision="sha",
        ended=(each, inspect),
    )


def end(journal: Journal, *ended: Evicted) -> None:
    for each in ended:
        inspect = {"HostConfig": {"RestartPolicy": POLICY}}
        _begin(journal, each, inspect)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("rogue", [SECOND, FIRST]),
        (FIRST.id, [FIRST]),
        (FIRST.id[:12], [FIRST]),
        ("ab34", [SECOND]),
        ("ab3", []),  # too short to be meant as an ID
        ("ab", [STOPPED]),  # a name counts as a whole
        ("", []),
        ("rog", []),
        ("ROGUE", []),
        ("AB12", []),
        ("b12", []),
        ("ab78", []),
        ("%", []),
        ("_", []),
        ("ab*", []),
        (f"{FIRST.id}0", []),
    ],
)
def test_an_ended_container_is_found_by_the_beginning_of_its_id_or_by_its_name(
    journal: Journal, word: str, found: list[Evicted]
) -> None:
    end(journal, FIRST, SECOND, STOPPED)
    journal.report(REPORTED, {})
    assert journal.find_evicted(word) == found


def test_ending_a_container_is_one_write_that_history_and_undo_both_see(journal: Journal) -> None:
    end(journal, FIRST)
    (entry,) = journal.history()
    assert (entry.action, entry.subject, entry.reason) == ("evict", "rogue", "no-project")
    assert (entry.cause, entry.revision, entry.status) == ((CAUSE,), "sha", "running")
    assert journal.evicted() == [FIRST]
    assert journal.close_open_actions() == 1
    assert journal.history()[0].status == "cancelled"


def test_what_is_kept_comes_in_the_order_of_its_end(journal: Journal) -> None:
    end(journal, SECOND, STOPPED, FIRST)
    assert journal.kept() == [FIRST, SECOND, STOPPED]
    journal.evicted_is_over(FIRST.id)
    assert journal.kept() == [SECOND, STOPPED]
    assert journal.find_evicted("ab12") == [replace(FIRST, remove_at=None)]
    # Ended a second time, it is kept a second time.
    end(journal, replace(FIRST, remove_at=70.0))
    assert journal.kept() == [SECOND, replace(FIRST, remove_at=70.0), STOPPED]


def test_what_a_container_was_before_it_was_ended_outlives_all_that_comes_after(
    journal: Journal,
) -> None:
    end(journal, FIRST)
    again = replace(FIRST, name="commitd-evicted-rogue-ab1200000000")
    _begin(journal, again, {"HostConfig": {}})
    journal.report(replace(again, action=EvictionAction.REPORTED, remove_at=None), {})
    (kept,) = journal.kept()
    assert (kept.name, kept.remove_at) == ("rogue", 50.0)
    assert journal.restart_policy(FIRST.id) == POLICY
    journal.evicted_is_over(FIRST.id)
    _begin(journal, again, {"HostConfig": {}})
    assert journal.restart_policy(FIRST.id) == {}


@pytest.mark.parametrize(
    ("inspect", "policy"),
    [
        ({"HostConfig": {"RestartPolicy": POLICY}}, POLICY),
        ({"HostConfig": {"RestartPolicy": {"Name": "no"}}}, {"Name": "no"}),
        ({"HostConfig": {"RestartPolicy": None}}, {}),
        ({"HostConfig": {}}, {}),
        ({}, {}),
    ],
)
def test_the_restart_policy_of_what_was_ended_is_remembered(
    journal: Journal, inspect: dict[str, object], policy: dict[str, object]
) -> None:
    _begin(journal, FIRST, inspect)
    assert journal.restart_policy(FIRST.id) == policy
    assert journal.restart_policy("unknown") == {}


def test_what_is_let_be_is_news_once(journal: Journal) -> None:
    assert journal.report(REPORTED, {})
    assert not journal.report(REPORTED, {})
    assert not journal.report(replace(REPORTED, at="2026-02-01"), {})
    assert journal.report(replace(REPORTED, reason=Reason.UNKNOWN_PROJECT), {})
    assert not journal.report(replace(REPORTED, reason=Reason.UNKNOWN_PROJECT), {})
    assert journal.report(replace(REPORTED, id="c9"), {})
    assert len(journal.evicted()) == 2
    assert journal.kept() == []
    assert journal.history() == []


# --- the file of another version ---


def version_1(path: Path) -> None:
    """What the version before suspensions left behind."""
    made = release("web")
    with sqlite3.connect(path) as db:
        db.executescript(schema.SCHEMA)
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO meta VALUES ('enrolled', '\"2026-01-01\"')")
        db.execute(
            "INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?)",
            (
                made.stack,
                made.digest,
                made.revision,
                json.dumps(made.inputs),
                # Services had no container_name then.
                json.dumps(
                    [
                        {
                            "name": s.name,
                            "image": s.image,
                            "scale": s.scale,
                            "config_hash": s.config_hash,
                            "finishes": s.one_shot,
                        }
                        for s in made.services
                    ]
                ),
                made.at,
            ),
        )
        db.execute("INSERT INTO attempts VALUES ('db', 'd1', 2, 50.0, 1, 'no such image')")
        db.execute("INSERT INTO approvals VALUES ('sha', 't')")
        db.execute("INSERT INTO holds VALUES ('a', 'it would', 'why', 1, 't')")
        db.execute("INSERT INTO helpers VALUES ('h1')")
        db.execute(
            "INSERT INTO evicted VALUES (?, 'rogue', 'img', 'removed',"
            " 'belongs to no Compose project', ?, 50.0, '{}')",
            (FIRST.id, FIRST.at),
        )
        db.execute(
            "INSERT INTO actions (at, action, subject, reason, cause)"
            " VALUES ('t', 'deploy', 'web', 'r', '[]')"
        )
    db.close()


def test_a_journal_of_the_version_before_keeps_what_it_knew(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    version_1(path)
    journal = Journal(path)
    assert journal.get("enrolled") == "2026-01-01"
    assert journal.releases() == {"web": release("web")}
    assert journal.attempts() == {
        "db": Attempt(
            stack="db", digest="d1", count=2, next_at=50.0, permanent=True, error="no such image"
        )
    }
    assert journal.approved() == {"sha"}
    assert [hold["subject"] for hold in journal.holds()] == ["a"]
    assert journal.helpers() == ["h1"]
    assert journal.kept() == [FIRST]
    assert [entry.action for entry in journal.history()] == ["deploy"]
    journal.suspend(WEB)
    journal.exempt("c1", 100.0)
    journal.close()

    again = Journal(path)
    assert again.suspensions(0.0) == (WEB,)
    assert again.granted(0.0) == {"c1": 100.0}
    assert again.releases() == {"web": release("web")}
    assert _version(path) == len(schema.MIGRATIONS)
    again.close()


def test_a_new_journal_and_one_that_grew_have_the_same_shape(tmp_path: Path) -> None:
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    version_1(old)
    for path in (old, new):
        Journal(path).close()
    assert _schema(old) == _schema(new)


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    Journal(path).close()
    newer = len(schema.MIGRATIONS) + 1
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {newer}")
    db.close()
    before = _schema(path)
    with pytest.raises(ConfigError, match=rf"newer version of commitd \({newer}\)"):
        Journal(path)
    assert (_version(path), _schema(path)) == (newer, before)


def _version(path: Path) -> int:
    db = sqlite3.connect(path)
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    db.close()
    return found


def _schema(path: Path) -> list[tuple[str, ...]]:
    db = sqlite3.connect(path)
    found = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    db.close()
    return found
