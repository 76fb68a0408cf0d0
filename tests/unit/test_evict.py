"""What ends a container only where that can be taken back, and what is kept of what it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.engine.containers import redacted, stop_limit
from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.stack.ledger import Ledger
from agent.control.undeclared.evict import Evictor, _irreversible
from agent.control.undeclared.protection import Protection
from agent.domain.config import UndeclaredRules
from agent.domain.outcome import Reason
from tests.unit.builders import container

ANONYMOUS = {"Type": "volume", "Name": "0" * 64}
NAMED = {"Type": "volume", "Name": "data"}
BOUND = {"Type": "bind", "Source": "/srv"}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.db")
    yield journal
    journal.close()


@pytest.mark.parametrize(
    ("throwaway", "mounts", "held"),
    [
        (True, [NAMED, ANONYMOUS], True),
        (True, [NAMED, BOUND], False),
        (True, None, False),
        (False, [ANONYMOUS], False),
    ],
)
def test_a_throwaway_container_is_not_ended_with_its_anonymous_volumes(
    throwaway: bool, mounts: list[dict[str, str]] | None, held: bool
) -> None:
    raw = {"HostConfig": {"AutoRemove": throwaway}, "Mounts": mounts}
    hold = _irreversible(container("rogue"), raw)
    assert (hold.reason if hold else None) == (Reason.VOLUMES if held else None)


def test_a_storm_of_undeclared_containers_is_not_ended_altogether(journal: Journal) -> None:
    engine, actions = Engine("unix:///nowhere"), AsyncJournal(journal)
    rules = UndeclaredRules(per_minute=2)
    protection = Protection(engine, actions)
    evictor = Evictor(engine, actions, rules, protection, Ledger(engine, actions))
    rate = evictor._rate
    assert [rate.many(one_more=True) for _ in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("own", "seconds"), [(None, 10), (0, 0), (120, 120), (-1, 3600), (86400, 3600)]
)
def test_a_stop_takes_as_long_as_the_container_says_but_no_more_than_an_hour(
    own: int | None, seconds: int
) -> None:
    assert stop_limit({"Config": {"StopTimeout": own}}) == seconds


def test_no_value_and_no_argument_of_an_ended_container_is_kept() -> None:
    secret = "correct horse"
    raw: dict[str, Any] = {
        "Id": "0" * 64, "Name": "/rogue", "Created": "t", "Image": "sha256:0",
        "Args": [secret], "Path": secret,
        "Config": {
            "Image": "i", "Env": [f"PASSWORD={secret}"], "Cmd": [secret], "Entrypoint": [secret],
            "Labels": {"token": secret, "com.docker.compose.project": "p"}, "Healthcheck": secret,
        },
        "HostConfig": {"RestartPolicy": {"Name": "no"}},
        "Mounts": [],
    }  # fmt: skip
    kept = json.dumps(redacted(raw))
    assert secret not in kept
    assert "PASSWORD" in kept
