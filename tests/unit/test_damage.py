"""A journal that cannot be read costs a host its memory, not its agent."""

from __future__ import annotations

import logging
import random
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.adapters.state import damage, database
from agent.adapters.state.database import DamagedError
from agent.adapters.state.journal import Journal
from agent.domain.errors import ConfigError, TransientError
from agent.domain.outcome import Action, Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.reconcile.plan import plan
from agent.domain.release.release import Attempt
from tests.unit import builders
from tests.unit.builders import release, stack


def _filled(path: Path) -> None:
    """A journal of a host that has worked for a while."""
    journal = Journal(path)
    journal.put("enrolled", "2026-01-01")
    journal.put("declared", {"revision": {"sha": "a" * 40}, "stacks": {}})
    for number in range(60):
        name = f"stack{number}"
        journal.keep_release(release(name))
        journal.keep_attempt(
            Attempt(stack=name, digest="d", count=1, next_at=1.0, permanent=False, error="x" * 99)
        )
        journal._begin(Action.DEPLOY, name, Reason.NEW, detail="y" * 99)
    journal.keep_holds([Hold("stack1", Reason.FAILED, "it failed")])
    journal.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")  # all of it in the one file


def _open(path: Path, *, worked_before: bool = True) -> Journal:
    return damage.open_journal_of_agent(path, worked_before=worked_before)


def _is_begun_anew(path: Path) -> Journal:
    journal = _open(path)
    assert journal.get("enrolled") is None
    assert journal.releases() == {}
    [aside] = path.parent.glob("journal.db.unreadable-*Z")
    said = damage.begun_anew(journal)
    assert said
    assert aside.name in said
    assert "commitd enroll" in said
    return journal


@pytest.mark.parametrize("left", [0, 1, 99, 100, 4096, 0.5, 0.99])
def test_a_truncated_journal_is_set_aside_and_begun_anew(
    tmp_path: Path, left: float, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.db"
    _filled(path)
    whole = path.read_bytes()
    kept = whole[: int(left * len(whole)) if isinstance(left, float) else left]
    path.write_bytes(kept)
    with caplog.at_level(logging.ERROR):
        journal = _is_begun_anew(path)
    assert "nothing is removed until commitd enroll" in caplog.text
    aside = next(tmp_path.glob("journal.db.unreadable-*Z")).read_bytes()
    assert aside[100:] == kept[100:]  # but for the header, which says how it is opened
    journal.put("enrolled", "2026-01-02")
    assert damage.begun_anew(journal) is None
    journal.close()
    caplog.clear()
    again = _open(path)
    assert (again.get("enrolled"), caplog.text) == ("2026-01-02", "")
    again.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE meta SET value = '{\"revision\": {\"sgb\": 1}}' WHERE key = 'declared'",
        "UPDATE meta SET value = '2026-01-01' WHERE key = 'enrolled'",
        "UPDATE releases SET services = replace(services, '\"name\"', '\"nave\"')",
        "UPDATE releases SET inputs = '[[\"a\"]]'",
        "UPDATE holds SET reason = 'faimed'",
        "UPDATE actions SET reason = 'nev' WHERE id = 3",
        "UPDATE actions SET action = 'deqloy' WHERE id = 3",
        "UPDATE actions SET cause = '[' WHERE id = 3",
        "DROP TABLE releases",
    ],
)
def test_a_row_that_makes_no_sense_is_damage(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "journal.db"
    _filled(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    _is_begun_anew(path).close()


def test_whatever_bits_have_changed_there_is_a_journal_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _filled(path)
    whole = path.read_bytes()
    dice = random.Random(7)  # noqa: S311  the same each time
    noticed = 0
    for _ in range(60):
        flipped = bytearray(whole)
        for _ in range(3):
            flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        try:
            journal = _open(path)
        except ConfigError as err:  # the one number that says that it is newer
            assert "newer version" in str(err)  # noqa: PT017
            continue
        # Nothing of what the agent asks raises any more.
        journal.verify()
        journal.history()
        noticed += damage.begun_anew(journal) is not None
        journal.close()
    assert noticed
    assert len([*tmp_path.glob("journal.db.unreadable-*Z")]) <= damage._KEPT


def test_damage_that_shows_later_is_told_from_trouble_that_passes(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _filled(path)
    journal = Journal(path)
    with path.open("r+b") as file:
        size = path.stat().st_size
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(DamagedError, match="sets it aside"):
        journal.verify()
    journal.close()


def test_what_is_not_damaged_is_not_set_aside(tmp_path: Path) -> None:
    newer = tmp_path / "journal.db"
    Journal(newer).close()
    with closing(sqlite3.connect(newer)) as db:
        db.execute(f"PRAGMA user_version = {len(database._MIGRATIONS) + 1}")
    with pytest.raises(ConfigError, match="newer version"):
        _open(newer)
    with pytest.raises(TransientError):
        _open(tmp_path / "not mounted" / "journal.db")
    first = tmp_path / "first" / "journal.db"
    first.parent.mkdir()
    first.touch()  # as a verb does that makes it, the moment before
    journal = _open(first, worked_before=False)
    assert damage.begun_anew(journal) is None
    journal.close()
    assert [*tmp_path.rglob("*unreadable*")] == []


def test_what_was_written_beside_it_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"no database" * 100)
    (tmp_path / "journal.db-wal").write_bytes(b"its log")
    _open(path).close()
    [log] = tmp_path.glob("*unreadable-*-wal")
    assert log.read_bytes() == b"its log"


def test_nothing_leaves_by_a_journal_that_was_begun_anew_until_a_person_agrees() -> None:
    now = builders.situation([stack("a")], [release(name) for name in "ab"], enrolled=False)
    lost = replace(now, begun_anew="it was set aside")
    assert [each.project for each in plan(now).removals] == ["b"]
    todo = plan(lost)
    assert (todo.removals, todo.evictions) == ((), ())
    held = {hold.subject: hold for hold in todo.holds if hold.reason is Reason.JOURNAL}
    assert held.keys() == {"b", now.desired.host}
    assert all(hold.needs_person for hold in held.values())
