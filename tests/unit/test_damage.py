"""A journal that cannot be read costs a host its memory, not its agent."""

from __future__ import annotations

import errno
import logging
import random
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent.adapters.state import damage, schema
from agent.adapters.state.database import DamagedError
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import Journal, open_journal
from agent.domain.config import Config, Remote
from agent.domain.errors import ConfigError, TransientError
from agent.domain.outcome import Action, CauseKind, EvictionAction, Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.reconcile.plan import plan
from agent.domain.release.release import Attempt
from tests.unit import builders
from tests.unit.builders import release, stack
from tests.values import replace


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


ROGUE = Evicted(
    id="c1",
    name="rogue",
    image="img",
    action=EvictionAction.REPORTED,
    reason=Reason.NO_PROJECT,
    at="2026-01-01",
)


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


@pytest.mark.parametrize("left", [1, 99, 100, 4096, 0.5, 0.99])
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
        "UPDATE holds SET reason = 'fai,ed'",
        "UPDATE actions SET reason = 'ne7' WHERE id = 3",
        "UPDATE actions SET action = 'DEPLOY' WHERE id = 3",
        "UPDATE actions SET status = 'fa led' WHERE id = 3",
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


NEWER = [
    "UPDATE holds SET reason = 'held-by-the-moon'",
    "UPDATE actions SET reason = 'asked-by-the-api', action = 'snapshot' WHERE id = 3",
    "UPDATE actions SET status = 'postponed' WHERE id = 3",
    """UPDATE actions SET cause = '[{"kind": "forge", "before": null, "after": "x", "more": 1}]'""",
    'UPDATE releases SET services = replace(services, \'"joins"\', \'"gpus": 1, "joins"\')',
    "UPDATE evicted SET action = 'paused', reason = 'asked-by-the-api'",
    """UPDATE meta SET value = json_set(value, '$.zone', 'UTC') WHERE key = 'clock'""",
]


@pytest.mark.parametrize("statement", NEWER)
def test_what_a_newer_version_wrote_costs_no_suspension(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "journal.db"
    _filled(path)
    journal = Journal(path)
    journal.suspend(Suspension(None, None, "moving house", "2026-01-01"))
    journal.report(ROGUE, {})
    journal.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute(statement).rowcount > 0
        db.commit()
    with closing(_open(path)) as journal:
        assert [each.reason for each in journal.suspensions(0.0)] == ["moving house"]
        assert journal.get("enrolled") is not None
        assert len(journal.releases()) == 60
        assert len(journal.history(limit=99)) == 60
        journal.holds(), journal.evicted(), journal.keep_holds([])
    assert [*tmp_path.glob("*unreadable*")] == []


def test_a_code_of_another_version_is_shown_as_such(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _filled(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute(
            "UPDATE actions SET reason = 'new-one', action = 'snapshot',"
            """ cause = '[{"kind": "forge", "before": null, "after": "x"}]' WHERE id = 60"""
        )
        db.commit()
    with closing(Journal(path)) as journal:
        [entry] = journal.history(limit=1)
    assert (entry.action, entry.reason) == (Action.OTHER, Reason.OTHER)
    assert [cause.kind for cause in entry.cause] == [CauseKind.UNKNOWN]


# --- a new one takes its place ---


def _destroyed(path: Path) -> bytes:
    _filled(path)
    content = path.read_bytes()[:-4096]
    path.write_bytes(content)
    return content


def test_a_disk_that_is_full_costs_neither_the_old_journal_nor_the_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    content = _destroyed(path)

    def put(journal: Journal, *_: object) -> None:
        with journal._write() as db:
            db.execute("PRAGMA max_page_count = 1")
            db.execute("CREATE TABLE more (x TEXT)")

    with monkeypatch.context() as full:
        full.setattr(Journal, "put", put)
        for _ in range(2 * damage._KEPT):
            with pytest.raises(TransientError, match="cannot take its place"):
                _open(path)
    assert path.read_bytes()[100:] == content[100:]
    assert [*tmp_path.glob("*unreadable*"), *tmp_path.glob("*.new*")] == []
    _is_begun_anew(path).close()


@pytest.mark.parametrize("at", range(1, 5))
def test_a_kill_while_it_is_begun_anew_does_not_lose_the_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    path = tmp_path / "journal.db"
    content = _destroyed(path)
    (tmp_path / "journal.db-wal").write_bytes(b"its log")
    rename, done = Path.rename, 0

    def killed(self: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done == at:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as machine:
        machine.setattr(Path, "rename", killed)
        with suppress(KeyboardInterrupt):
            _open(path).close()
    with closing(_open(path)) as journal:
        assert damage.begun_anew(journal)
    kept = [each.read_bytes()[100:] for each in tmp_path.glob("*unreadable-*Z")]
    assert content[100:] in kept


@pytest.mark.parametrize("left", ["nothing", "empty", "no schema"])
def test_a_journal_that_is_gone_or_empty_is_begun_anew_and_nothing_is_set_aside(
    tmp_path: Path, left: str
) -> None:
    path = tmp_path / "journal.db"
    if left == "empty":
        path.touch()
    if left == "no schema":  # as a start on a full disk left it
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode = WAL")
    for _ in range(2):
        with closing(_open(path)) as journal:
            said = damage.begun_anew(journal)
            assert said
            assert "commitd enroll" in said
    assert [each for each in tmp_path.glob("*unreadable-*Z") if not each.stat().st_size] == []


@pytest.mark.parametrize("left", ["nothing", "empty"])
def test_no_order_makes_a_journal_where_one_was_lost(tmp_path: Path, left: str) -> None:
    (tmp_path / "git").mkdir()
    if left == "empty":
        (tmp_path / "journal.db").touch()
    remotes = (Remote(name="gitea", url="file:///x"),)
    config = Config(host="media", remotes=remotes, state_dir=tmp_path, runtime_dir=tmp_path / "run")
    for new in (False, True):
        with pytest.raises(ConfigError, match=r"no journal yet|nothing was ever written"):
            open_journal(config, read_only=False, new=new)
    with closing(_open(tmp_path / "journal.db")) as journal:
        assert damage.begun_anew(journal)


def test_the_oldest_that_was_set_aside_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = _destroyed(path)
    for _ in range(2 * damage._KEPT):
        _open(path).close()
        path.write_bytes(b"no database" * 100)
        time.sleep(0.002)  # the names have milliseconds
    kept = sorted(tmp_path.glob("*unreadable-*Z"))
    assert len(kept) == damage._KEPT
    assert kept[0].read_bytes()[100:] == first[100:]


def test_a_directory_that_is_read_only_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    _destroyed(path)

    def refused(*_: object) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(TransientError, match="it stays: Read-only file system"):
        _open(path)


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
        db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS) + 1}")
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
