"""`docs/explanation/architecture.md` is a map of what is there."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.adapters.state.journal import Journal

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs/explanation/architecture.md").read_text()
FLOORS = ("domain", "adapters", "control", "surface")
PLANNED: set[str] = set()
_PLACE = rf"`((?:{'|'.join((*FLOORS, 'tests', 'docs'))})/[\w./-]*)`"


@pytest.mark.parametrize("name", sorted(set(re.findall(_PLACE, MAP))))
def test_each_place_on_the_map_is_there(name: str) -> None:
    base = ROOT / "agent" if name.startswith(FLOORS) else ROOT
    assert (base / name).exists() != (name in PLANNED)


@pytest.mark.parametrize("floor", FLOORS)
def test_each_wing_is_on_the_map(floor: str) -> None:
    picture = MAP.partition("```\n")[2].partition("```")[0]
    for wing in (ROOT / "agent" / floor).glob("*/__init__.py"):
        assert re.search(rf"\b{wing.parent.name}\b", picture), wing


def test_each_table_of_the_journal_is_on_the_map(tmp_path: Path) -> None:
    Journal(tmp_path / "journal.db").close()
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE sql <> ''")}
    tables = {name for name in found if not name.startswith(("actions_", "sqlite_"))}
    section = MAP.partition("| table |")[2].partition("| key in")[0]
    first_cells = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == tables
