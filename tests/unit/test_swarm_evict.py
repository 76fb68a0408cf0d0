"""A service is ended only by the manager that leads, and only as it was looked at."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.adapters.swarm import services
from agent.control.swarm.evict import ServiceEvictor
from agent.control.undeclared.protection import Protection
from agent.domain.config import UndeclaredRules
from agent.domain.errors import CancelledError
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold, ProtectionSet
from agent.domain.swarm.model import STACK
from tests.unit.test_engine_client import answer, asked, place, pong

__all__ = ["place"]

SPEC = {
    "Name": "web_app",
    "Labels": {STACK: "web"},
    "TaskTemplate": {"ContainerSpec": {"Image": "idle"}},
    "Mode": {"Replicated": {"Replicas": 2}},
}
ROGUE = answer(200, json.dumps({"ID": "rogue", "Version": {"Index": 7}, "Spec": SPEC}).encode())
STALE = answer(500, b'{"message":"update out of sequence"}', "Content-Type: application/json")
NOBODYS = ProtectionSet(services={}, enrolled=True)
DECLARED = ProtectionSet(services={"web": frozenset({"app"})}, enrolled=True)


async def _leads() -> None:
    pass


async def _stands_by() -> None:
    raise CancelledError("the leader is node2 now")


class Evicting:
    """Evicts one service once, ``protected`` by what counts then; ``found`` is the hold."""

    def __init__(
        self,
        path: Path,
        protected: ProtectionSet = NOBODYS,
        confirm: Callable[[], Awaitable[None]] = _leads,
        **rules: Any,
    ) -> None:
        self.protected = protected
        self.found: Hold | None = None
        self.history: list[str] = []
        self.published: Protection | None = None
        self._path = path / "journal.db"
        self._confirm = confirm
        self._rules = UndeclaredRules(**rules)

    async def __call__(self, engine: Engine) -> None:
        with closing(Journal(self._path)) as file:
            journal = AsyncJournal(file)
            self.published = Protection(engine, journal)
            self.published.publish(self.protected)
            evictor = ServiceEvictor(
                engine, journal, self._rules, self.published, confirm=self._confirm
            )
            self.found = await evictor.evict("rogue")
            self.history = [each.status for each in await journal.history()]

    def publish(self, protected: ProtectionSet) -> None:
        assert self.published is not None
        self.published.publish(protected)


def _changes(place: Path, work: Evicting, update: Callable[[], bytes] = lambda: answer(200)) -> int:
    """How often it changes the service."""

    def says(request: str) -> bytes:
        if "/_ping" in request:
            return pong("1.41")
        return update() if request.startswith("POST") else ROGUE

    heard = asked(place, says, work).heard
    posted = [each for each in heard if each.startswith("POST")]
    assert set(posted) <= {"POST /v1.41/services/rogue/update?version=7"}
    return len(posted)


def test_what_nobody_declared_is_ended_in_one_change_by_the_manager_that_leads(
    place: Path,
) -> None:
    work = Evicting(place)
    assert _changes(place, work) == 1
    assert (work.found, work.history) == (None, ["succeeded"])


def test_a_manager_that_does_not_lead_changes_nothing_and_writes_nothing_down(
    place: Path,
) -> None:
    work = Evicting(place, confirm=_stands_by)
    assert _changes(place, work) == 0
    assert (work.found, work.history) == (None, [])


@pytest.mark.parametrize(
    ("protected", "rules", "reason"),
    [
        (DECLARED, {}, None),
        (ProtectionSet(services={}), {}, Reason.NOT_ENROLLED),
        (ProtectionSet(services={}, enrolled=True, doubt="?"), {}, Reason.LIST_IN_DOUBT),
        (NOBODYS, {"mode": "report"}, Reason.REPORT_ONLY),
        (NOBODYS, {"per_minute": 0}, Reason.RATE),
    ],
)
def test_what_is_held_or_declared_is_not_changed(
    place: Path, protected: ProtectionSet, rules: dict[str, Any], reason: Reason | None
) -> None:
    work = Evicting(place, protected, **rules)
    assert _changes(place, work) == 0
    assert (work.found.reason if work.found else None) == reason


def test_what_somebody_changes_in_that_moment_is_looked_at_again(place: Path) -> None:
    work = Evicting(place)
    said = iter([STALE, STALE, answer(200)])
    assert _changes(place, work, lambda: next(said)) == 3
    assert work.history == ["succeeded"]


def test_what_is_declared_in_that_moment_is_let_be(place: Path) -> None:
    work = Evicting(place)

    def deployed() -> bytes:
        work.publish(DECLARED)
        return STALE

    assert _changes(place, work, deployed) == 1
    assert (work.found, work.history) == (None, ["cancelled"])


def test_a_change_made_from_an_older_version_is_told_from_trouble_of_the_engine(
    place: Path,
) -> None:
    async def work(engine: Engine) -> None:
        found = await services.inspect(engine, "rogue")
        assert found is not None
        with pytest.raises(services.ChangedMeanwhileError):
            await services.update(engine, found, found.spec)

    asked(place, lambda r: pong("1.41") if "ping" in r else STALE if "POST" in r else ROGUE, work)
