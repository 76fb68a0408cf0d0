"""The journal on its way from one version of the agent to another, and back."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.host import programs
from agent.adapters.host.programs import Programs, here
from agent.adapters.state import before, older, schema
from agent.adapters.state.database import _CONVERSIONS
from agent.adapters.state.journal import Journal
from agent.control import rollback, trial
from agent.control.status.versions import Beside
from agent.domain.errors import AgentUnhealthyError, ConfigError, MissingError
from agent.domain.outcome import Action, Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.release.identity import Known
from tests.unit.builders import attempt, release

NEWEST = len(schema.MIGRATIONS)
_SERVICES = [
    {"name": "web", "image": "i", "scale": 1, "config_hash": "h", "finishes": False,
     "one_shot": False}
]  # fmt: skip
_VALUES = {
    "stack": "web", "digest": "d1", "revision": "a" * 40, "inputs": '[["stacks/web/x.env", "1"]]',
    "services": json.dumps(_SERVICES), "at": "2026-01-01T00:00:00.000Z", "count": 1, "next_at": 1.0,
    "permanent": 0, "error": "no", "path": "a", "oid": "1", "sha": "b" * 40, "id": "c1",
    "until": None, "reason": "I look", "since": "2026-01-01", "own": '{"web": ["c1"]}',
    "before": None,
}  # fmt: skip
_FILLED = ("releases", "attempts", "plaintext", "approvals", "helpers", "suspensions", "made",
           "started")  # fmt: skip


def _of_schema(path: Path, number: int) -> None:
    """A journal as the agent of that schema has left it, with a row in most tables."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        for each, script in enumerate(schema.MIGRATIONS[:number], 1):
            for statement in script.split(";"):
                db.execute(statement)
            if convert := _CONVERSIONS.get(each):
                convert(db)
        db.execute(f"PRAGMA user_version = {number}")
        for table in _FILLED:
            columns = [row["name"] for row in db.execute(f"PRAGMA table_info({table})")]
            known = [name for name in columns if name in _VALUES]
            if known:
                marks = ", ".join("?" * len(known))
                db.execute(
                    f"INSERT INTO {table} ({', '.join(known)}) VALUES ({marks})",  # noqa: S608
                    [_VALUES[name] for name in known],
                )
        said = json.dumps({"revision": {"sha": "a" * 40}, "stacks": {"web": "d1"}})
        db.execute("INSERT INTO meta VALUES ('declared', ?)", (said,))


@pytest.mark.parametrize("number", range(1, NEWEST + 1))
def test_a_journal_of_each_schema_is_brought_forward_with_what_it_knows(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "journal.db"
    _of_schema(path, number)
    with closing(Journal(path)) as journal:
        journal.verify()
        found = journal.releases()["web"]
        assert (found.digest, found.services[0].config_hash) == ("d1", "h")
        assert journal.attempts()["web"].error == "no"
        assert journal.plaintext() == {"a": "1"}
        assert journal.helpers() == ["c1"]
    assert older.schema_of(path) == NEWEST


@pytest.mark.parametrize("number", range(9, NEWEST + 1))
def test_what_the_version_before_had_judged_is_read_from_its_copy(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / "journal.db"
    _of_schema(path, number)
    copy = older.keep_copy(path)
    assert copy == tmp_path / f"journal.db.{number}"
    Journal(path).close()
    known = before.read(copy)
    assert (known.revision, known.digests) == ("a" * 40, {"web": "d1"})
    assert known.releases["web"].own == frozenset({"c1"})
    assert known.releases["web"].hashes == {"web": "h"}
    assert known.troubled == {"web"}
    assert {*known.held, *known.heads, *known.silent} == set()


def test_the_remotes_that_did_not_answer_the_version_before_are_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        journal.put("remotes", {
            "home": {"name": "home", "reachable": False, "head": "a" * 40, "error": "401"},
            "away": {"name": "away", "reachable": True, "head": None, "error": None},
        })  # fmt: skip
    known = before.read(path)
    assert known.silent == {"home"}
    assert known.heads == {"a" * 40}


def _newer(path: Path, *statements: str, number: int = NEWEST + 1) -> None:
    """What the migrations of a newer version make of a journal."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number}")


def _worked(path: Path) -> None:
    with closing(Journal(path)) as journal:
        journal.put("enrolled", "2026-01-01")
        journal.keep_release(release("web"))
        journal._begin(Action.DEPLOY, "web", Reason.NEW)


def _goes_on(path: Path) -> None:
    """What a newer version and people do meanwhile: it has the same columns, and more."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = " + str(NEWEST))
    with closing(Journal(path)) as journal:
        journal.keep_release(release("web", "d2"))
        journal.keep_made("web", Known(frozenset({("web", "c2")})))
        journal.suspend(Suspension("db", None, "I look at it", "2026-01-01", "ada"))
        journal.keep_attempt(attempt("other"))
        journal._begin(Action.DEPLOY, "web", Reason.CHANGED)


def test_a_journal_that_comes_back_knows_what_was_done_and_ordered_meanwhile(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.db"
    _worked(path)
    older.keep_copy(path)
    _goes_on(path)
    _newer(path, "ALTER TABLE releases ADD COLUMN more TEXT", "CREATE TABLE things (a TEXT)")
    with pytest.raises(ConfigError, match="is of a newer version of commitd"):
        Journal(path)
    assert older.is_newer(path)
    older.take_back(path)
    with closing(Journal(path)) as journal:
        journal.verify()
        assert journal.releases()["web"].digest == "d2"
        assert journal.releases()["web"].own == frozenset({("web", "c2")})
        assert [each.stack for each in journal.suspensions(0.0)] == ["db"]
        assert set(journal.attempts()) == {"other"}
        assert [each.reason for each in journal.history()] == [Reason.CHANGED, Reason.NEW]
        assert journal._begin(Action.DEPLOY, "web", Reason.CHANGED) == 3
        assert journal.get("enrolled") == "2026-01-01"
    (aside,) = tmp_path.glob("journal.db.newer-*")
    assert older.schema_of(aside) == NEWEST + 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE releases SET services = '[5]'",
        "UPDATE meta SET value = '99' WHERE key = 'readable-from'",
        "ALTER TABLE releases RENAME COLUMN digest TO other",
    ],
)
def test_what_this_version_cannot_read_is_as_the_copy_has_it_and_orders_come_along(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "journal.db"
    _worked(path)
    older.keep_copy(path)
    _goes_on(path)
    _newer(path, damage)
    older.take_back(path)
    with closing(Journal(path)) as journal:
        journal.verify()
        assert journal.releases()["web"].digest == "d1"
        assert [each.stack for each in journal.suspensions(0.0)] == ["db"]


def test_without_a_copy_and_with_nothing_readable_it_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _worked(path)
    _newer(path, "UPDATE meta SET value = '99' WHERE key = 'readable-from'")
    older.take_back(path)
    with closing(Journal(path)) as journal:
        assert journal.get("begun-anew")["aside"].startswith("journal.db.newer-")
        assert journal.get("enrolled") is None  # so nothing is removed


def test_without_a_copy_orders_come_along_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _worked(path)
    _goes_on(path)
    _newer(path, "UPDATE meta SET value = '99' WHERE key = 'readable-from'")
    older.take_back(path)
    with closing(Journal(path)) as journal:
        journal.verify()
        assert [each.stack for each in journal.suspensions(0.0)] == ["db"]
        assert journal.get("begun-anew")["aside"].startswith("journal.db.newer-")


def _beside(home: Path) -> Programs:
    for version in ("1.0", "1.1"):
        (home / "versions" / version).mkdir(parents=True)
        (home / "versions" / version / "VERSION").write_text(version)
    (home / "current").symlink_to("versions/1.1")
    (home / "previous").symlink_to("versions/1.0")
    (home / "trial").write_text("candidate 1.1\nprevious 1.0\nsha256 -\nstarts 1\n")
    found = here(str(home / "versions" / "1.1"))
    assert found is not None
    return found


def test_an_agent_that_was_not_installed_beside_another_has_no_versions(tmp_path: Path) -> None:
    assert here(str(tmp_path)) is None
    assert here() is None


def test_a_trial_is_noted_and_ended(tmp_path: Path) -> None:
    beside = _beside(tmp_path)
    beside.note("journal", "/var/lib/commitd/journal.db.14")
    beside.note("failed", "it\nfails")
    found = beside.trial()
    assert found is not None
    assert (found.candidate, str(found.copy)) == ("1.1", "/var/lib/commitd/journal.db.14")
    assert "failed it fails\n" in (tmp_path / "trial").read_text()
    (tmp_path / "bad").write_text("1.1 - 2026 it hung\n0.9 abc 2025 it was bad\n")
    assert beside.accept()
    assert beside.trial() is None
    assert [each.version for each in beside.bad()] == ["0.9"]


def test_going_back_by_hand_is_remembered(tmp_path: Path) -> None:
    beside = _beside(tmp_path)
    assert beside.go_back("2026-01-01T00:00:00Z", "by hand") == "1.0"
    assert (beside.current, beside.previous, beside.trial()) == ("1.0", "1.1", None)
    assert [(each.version, each.why) for each in beside.bad()] == [("1.1", "by hand")]
    older_one = here(str(tmp_path / "versions" / "1.0"))
    assert older_one is not None
    told = older_one.fell_back()
    assert told is not None
    assert (told.given_up, told.why) == ("1.1", "by hand")
    assert beside.fell_back() is None
    older_one.forget_return()
    assert older_one.fell_back() is None


def test_a_version_that_was_given_up_is_none_to_go_back_to(tmp_path: Path) -> None:
    beside = _beside(tmp_path)
    beside.go_back("2026-01-01T00:00:00Z", "it hung")
    older_one = Programs(tmp_path, "1.0")
    with pytest.raises(LookupError, match=r"1\.1 was given up"):
        older_one.go_back("2026-01-02T00:00:00Z", "by hand")
    with pytest.raises(ConfigError, match=r"1\.1 is no version to go back to.*it hung"):
        rollback.possible(older_one)
    assert older_one.current == "1.0"
    shown = Beside(current="1.0", previous="1.1", on_trial=False, bad=tuple(older_one.bad()))
    assert "rollback-agent" not in "\n".join(shown.lines())


def test_one_that_a_person_went_back_from_is_not_well_however_it_goes_on(tmp_path: Path) -> None:
    beside = _beside(tmp_path)
    beside.go_back("2026-01-01T00:00:00Z", "by hand")
    assert not beside.accept()
    assert beside.given_up("1.1") is not None
    with pytest.raises(OSError, match="on trial no more"):
        beside.note("ready", "yes")


def test_the_sum_of_a_version_that_is_given_up_by_hand_is_remembered(tmp_path: Path) -> None:
    beside = _beside(tmp_path)
    (tmp_path / "versions/1.1/SHA256").write_text("5" * 64 + "\n")
    beside.go_back("2026-01-01T00:00:00Z", "by hand")
    assert [each.sha256 for each in beside.bad()] == ["5" * 64]


def test_a_start_that_a_person_ended_is_taken_off_those_of_the_trial(tmp_path: Path) -> None:
    beside = _beside(tmp_path)
    for _ in range(2):
        beside.not_counted()
        assert "starts 0\n" in (tmp_path / "trial").read_text()


def test_a_program_that_is_missing_just_now_is_not_what_the_version_says_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = _beside(tmp_path)
    monkeypatch.setattr(programs, "here", lambda: beside)
    assert isinstance(trial.cannot_begin(MissingError("git is not here")), AgentUnhealthyError)
    assert "failed" not in (tmp_path / "trial").read_text()
    assert isinstance(trial.cannot_begin(ConfigError("poll: wrong")), AgentUnhealthyError)
    assert "failed poll: wrong\n" in (tmp_path / "trial").read_text()
