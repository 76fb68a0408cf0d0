"""Plans and verdicts of cycles that find nothing new are found again, and nothing is compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from msgspec.structs import replace

from agent.adapters.engine.engine import Engine
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from agent.control.reconcile.planner import Planner
from agent.control.source.follower import declared
from agent.control.source.remote_status import Remotes, Seen
from agent.control.status.judge import Judge
from agent.control.status.looks import Looks
from agent.domain import config
from agent.domain.outcome import Action, Reason
from agent.domain.reconcile import host_state, plan
from agent.domain.release import drift
from agent.domain.status.facts import LastLook
from agent.domain.status.verdict import State
from tests.unit import builders

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.domain.reconcile.host_state import HostState
    from agent.domain.release.release import Release

NAMES = "abc"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stacks whose containers were compared with their release, each time."""
    found: list[str] = []
    compare = drift.compare

    def noted(release: Release, *more: Any) -> Any:
        found.append(release.stack)
        return compare(release, *more)

    monkeypatch.setattr(drift, "compare", noted)
    return found


def standing() -> HostState:
    return builders.situation(builders.stacks(NAMES), builders.releases(NAMES))


def again(situation: HostState, **changes: Any) -> HostState:
    """What another look finds: equal values, at another time."""
    found = [replace(container) for container in situation.containers]
    releases = dict(situation.releases)
    now = situation.now + 1
    return replace(
        situation, **{"containers": tuple(found), "releases": releases, "now": now, **changes}
    )


def test_a_cycle_that_finds_nothing_new_compares_nothing(compared: list[str]) -> None:
    planner, situation = Planner(), standing()
    first = planner.protected(situation), planner.plan(situation)
    assert sorted(set(compared)) == list(NAMES)
    compared.clear()
    other = again(situation)
    assert (planner.protected(other), planner.plan(other)) == first
    assert compared == []


def test_protection_is_found_once_for_a_plan(compared: list[str]) -> None:
    planner, situation = Planner(), standing()
    planner.protected(situation)
    before = len(compared)
    planner.plan(situation)
    assert len(compared) == before + len(list(NAMES))


CHANGES: dict[str, Callable[[HostState], HostState]] = {
    "a container that stopped": lambda s: again(
        s, containers=(replace(s.containers[0], state="exited"), *s.containers[1:])
    ),
    "a container that is gone": lambda s: again(s, containers=s.containers[1:]),
    "a container of nobody": lambda s: again(
        s, containers=(*s.containers, builders.container("rogue"))
    ),
    "a release that is dirty": lambda s: again(
        s, releases={**s.releases, "a": replace(s.releases["a"], dirty=True)}
    ),
    "another commit": lambda s: again(s, desired=builders.desired(*builders.stacks("a"))),
    "doubt": lambda s: again(s, doubt="a list cannot be read"),
    "no enrolment": lambda s: again(s, enrolled=False),
    "what somebody stopped": lambda s: again(s, stopped=frozenset({s.containers[0].id})),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_planned_for(what: str) -> None:
    planner, situation = Planner(), standing()
    planner.plan(situation)
    changed = CHANGES[what](situation)
    assert planner.protected(changed) == host_state.protected(changed)
    assert planner.plan(changed) == plan.plan(changed)


def test_what_has_failed_is_tried_when_its_time_has_come() -> None:
    failed = builders.attempt("a", next_at=builders.NOW + 5)
    situation = builders.situation(builders.stacks("a"), attempts=[failed])
    planner = Planner()
    assert planner.plan(situation).deploys == ()
    later = again(situation, now=builders.NOW + 6)
    assert [deploy.stack.name for deploy in planner.plan(later).deploys] == ["a"]


async def _verdicts(path: Path, compared: list[str]) -> None:
    situation = standing()
    journal = Journal(path / "journal.db")
    for release in situation.releases.values():
        journal.keep_release(release)
    journal.put("enrolled", utcnow())
    journal.put("declared", declared(situation.desired))
    written = f"host: media\nremotes: [{{name: gitea, url: 'file:///x'}}]\nstate_dir: {path}\n"
    host = config.parse(written.encode(), "config.yaml", hostname="media")
    seen = Seen(name="gitea", reachable=True, head=builders.SHA, checked_at=utcnow())
    known = AsyncJournal(journal)
    looks = Looks(known, path, LastLook())
    listed = Engine("unix:///x").containers
    judge = Judge(host, known, Remotes({"gitea": seen}, known, path), listed, looks, nodes=tuple)
    first = await judge.ended(situation.containers)
    assert first.line == f"in sync with {builders.SHA[:7]} (gitea)"
    assert sorted(compared) == list(NAMES)
    compared.clear()
    assert await judge.ended(again(situation).containers) == first
    assert compared == []
    down = again(situation).containers[:-1]
    assert "not in sync: c" in (await judge.ended(down)).line
    async with known.recording(Action.RESTART, "c", Reason.DRIFTED):  # beside that cycle
        found = await judge.ended(down, repairing=True)
        assert (found.state, "; repairing c (" in found.line) == (State.WORKING, True)
        standing_now = judge.standings.latest
        assert standing_now
        assert standing_now.cycle is not None
    journal.close()


def test_a_verdict_on_a_host_where_nothing_is_new_compares_nothing(
    tmp_path: Path, compared: list[str]
) -> None:
    anyio.run(_verdicts, tmp_path, compared)
