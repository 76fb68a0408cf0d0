"""A host whose journal cannot be read keeps its agent, its containers and its secrets."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.domain.outcome import Reason

if TYPE_CHECKING:
    from tests.system.conftest import Fleet

_LIST = "host/media/stacks.yaml"


def _flip(journal: Path) -> None:
    """One bit in the middle of each page but the first."""
    content = bytearray(journal.read_bytes())
    for middle in range(4096 + 2048, len(content), 4096):
        content[middle] ^= 1
    for start in range(4096, len(content), 4096):
        content[start] ^= 8  # what kind of page it is
    journal.write_bytes(content)


def _cut(journal: Path) -> None:
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])


@pytest.mark.parametrize("damage", [_cut, _flip])
def test_a_journal_that_cannot_be_read_costs_no_container_and_no_secret(
    fleet: Fleet, damage: object
) -> None:
    secret = "    environment: {VALUE: '${VALUE}'}\n"
    files: dict[str, str | bytes | None] = {
        _LIST: "- one\n- two\n",
        "stacks/one/compose.yaml": fleet.compose(more=secret),
        "stacks/one/app.secret.env": fleet.box.encrypt("VALUE=hunter2\n"),
        "stacks/two/compose.yaml": fleet.compose(),
    }
    host = fleet.synced(files)
    before = fleet.running()
    plaintext = [*host.state.rglob(".decrypted.app.secret.env")]
    assert plaintext
    fleet.box.engine.run("run", "--detach", "--name", "mine", fleet.idle)

    for left in host.state.glob("journal.db-*"):
        left.unlink()
    assert callable(damage)
    damage(host.state / "journal.db")
    result = host.once()
    assert result.returncode == 3, result.stderr
    [aside] = host.state.glob("journal.db.unreadable-*Z")
    assert f"it is set aside as {aside.name} and begun anew" in result.stderr
    assert fleet.running().items() >= before.items()
    assert "mine" in fleet.running()
    assert all(path.exists() for path in plaintext)
    holds = {hold["subject"]: hold for hold in host.json("status")["holds"]}
    assert holds["media"]["reason"] == Reason.JOURNAL
    assert aside.name in holds["media"]["message"]
    assert [e["status"] for e in host.json("history", "one") if e["action"] == "deploy"] == [
        "succeeded"  # adopted
    ]

    # What a commit drops stays as well, until a person has seen what would go.
    fleet.commit("two leaves", {_LIST: "- one\n", "stacks/two/compose.yaml": None})
    assert host.once().returncode == 3
    assert fleet.running().items() >= before.items()
    agreed = host.commitd("enroll", stdin="y\n", check=True).stdout
    assert "take down two" in agreed
    assert "stop, and later remove, mine" in agreed
    assert host.once().returncode == 0
    assert fleet.running() == {"one-app-1": before["one-app-1"]}
    assert host.json("status")["holds"] == []


def test_an_agent_that_finds_its_journal_damaged_goes_on_with_a_new_one(fleet: Fleet) -> None:
    host = fleet.synced({_LIST: "- one\n", "stacks/one/compose.yaml": fleet.compose()})
    before = fleet.running()
    journal = host.state / "journal.db"
    with host.running() as agent, closing(sqlite3.connect(journal)) as other:
        agent.says("in sync with")
        write = "INSERT OR REPLACE INTO meta VALUES ('other', '1')"
        other.execute(write)
        other.commit()  # it knows the pages that it will need
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = journal.read_bytes()
        journal.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        other.execute(write)
        other.commit()  # whoever has pages in memory reads them anew
        agent.says("and begun anew: nothing is removed until commitd enroll")
        agent.says("the journal could not be read")  # the hold, of the next cycle
    assert fleet.running() == before
    assert [hold["reason"] for hold in host.json("status")["holds"]] == [Reason.JOURNAL]
