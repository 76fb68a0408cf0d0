from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from agent.adapters.state import schema
from agent.adapters.state.journal import Journal
from agent.control.upgrade import complete
from agent.domain.release.health import Need
from agent.domain.release.release import Service
from tests.unit.builders import release, tree
from tests.values import replace

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def _dirty(journal: Journal) -> set[str]:
    return {name for name, found in journal.releases().items() if found.dirty}


def test_a_release_whose_files_were_away_and_are_back_is_dirty(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    for name in ("web", "gone", "same"):
        journal.keep_release(release(name))
        journal.keep_started(name, "d1")
    journal.track_inputs({"web": "d2", "same": "d1"})
    journal.track_inputs({"web": "d3", "same": "d1"})
    assert _dirty(journal) == set()
    journal.track_inputs({"web": "d1", "gone": "d1", "same": "d1"})
    assert _dirty(journal) == {"web", "gone"}
    assert [journal.started(name) for name in ("web", "gone", "same")] == [None, None, "d1"]


def test_a_journal_of_the_version_before_knows_which_files_were_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:5])
        Journal(path).close()
    with sqlite3.connect(path) as db:
        for name in ("web", "same"):
            row = (name, "d1", "sha", "[]", "[]", "t")
            db.execute("INSERT INTO releases VALUES (?, ?, ?, ?, ?, ?, '[]', 0, 1)", row)
        rows = {"away/web": "true", "started/web": '"d2"', "started/new": '"d1"', "enrolled": "1"}
        db.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
    db.close()
    journal = Journal(path)
    assert [journal.started(name) for name in ("web", "new", "same")] == ["d2", "d1", None]
    assert {row["key"] for row in journal._rows("SELECT key FROM meta")} == {
        "clock", "enrolled", "readable-from",
    }  # fmt: skip
    journal.track_inputs({"web": "d1", "same": "d1"})
    assert _dirty(journal) == {"web"}
    assert journal.started("web") is None


def test_a_release_that_was_deployed_from_its_new_files_is_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.keep_release(release("web"))
    journal.track_inputs({"web": "d2"})
    journal.keep_release(release("web", "d2"))
    journal.track_inputs({"web": "d2"})
    journal.track_inputs({"web": "d1"})
    journal.forget_release("web")
    journal.keep_release(release("web"))
    journal.track_inputs({"web": "d1"})
    assert _dirty(journal) == set()


def test_a_release_recorded_without_modes_gets_those_of_its_commit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    files = (("stacks/web/run.sh", "1"), ("stacks/web/web configs", "salted"))
    web = Service(
        name="web",
        image="i",
        scale=1,
        config_hash="h",
        one_shot=False,
        files=files,
        settings=(("Memory", 1),),
        plain=True,
        needs=(("db", Need(healthy=True)), ("vpn", Need(shares=True))),
    )
    found = replace(
        release("web", services=[web]),
        inputs=(("stacks/web/compose.yaml", "2"), ("stacks/web/run.sh", "1")),
    )
    journal.keep_release(found)
    journal.mark_dirty("web")
    journal._db.execute("UPDATE releases SET modes = 0")
    [older] = journal.without_modes()
    commit = tree({"stacks/web/run.sh": "1", "x": ""}, {"stacks/web/run.sh": "100755"})
    journal.keep_modes(complete(older, commit))
    assert journal.without_modes() == []
    now = journal.releases()["web"]
    assert now.inputs == (("stacks/web/compose.yaml", "2"), ("stacks/web/run.sh", "1 100755"))
    assert now.services[0].files == (("stacks/web/run.sh", "1 100755"), files[1])
    assert now.services[0].settings == web.settings
    assert (now.services[0].needs, now.services[0].plain) == (web.needs, True)
    assert now.dirty


def test_a_release_that_this_or_another_process_has_written_is_known_at_once(
    tmp_path: Path,
) -> None:
    journal, other = Journal(tmp_path / "journal.db"), Journal(tmp_path / "journal.db")
    assert journal.releases() == {}
    other.keep_release(release("web"))
    assert journal.releases().keys() == {"web"}
    journal.keep_release(release("db"))
    assert journal.releases().keys() == other.releases().keys() == {"web", "db"}
    journal.releases().clear()
    assert journal.releases().keys() == {"web", "db"}
