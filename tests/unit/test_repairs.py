"""Drift that is looked for while a cycle waits for others: when, and when not any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.tasks import task_group
from agent.control import service
from agent.control.parts import Parts
from agent.control.reconciler import Reconciler
from agent.control.service import Daemon
from agent.control.undeclared.protection import Protection
from agent.domain import config
from agent.domain.errors import TransientError
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.status import verdict
from tests.unit import builders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.adapters.guard import Guard
    from agent.control.status.judge import Judge
    from agent.domain.container import Container
    from agent.domain.reconcile.host_state import HostState
    from agent.domain.status.verdict import Verdict

FOUND = verdict.failed("nobody looked")


class Cycle(Reconciler):
    """One whose cycle does what it is told to, and that notes each time it is to repair."""

    def __init__(self, work: Callable[[], Awaitable[None]], repair_s: float = 0.0) -> None:
        super().__init__(cast("Parts", None))
        self._work = work
        self._repair_s = repair_s
        self.asked: list[tuple[bool, bool]] = []
        self.began = anyio.Event()

    async def cycle(self) -> Verdict:
        await self._work()
        return FOUND

    async def repair(
        self, group: Any, ended: Callable[[], None], *, anyway: bool, over: Callable[[], bool]
    ) -> Verdict | None:
        self.asked.append((anyway, over()))
        if not over() and self._repair_s and not self.repairing:
            self.repairing += 1
            self.began.set()
            group.start_soon(self._take, ended)
        return None

    async def _take(self, ended: Callable[[], None]) -> None:
        await anyio.sleep(self._repair_s)
        self.repairing -= 1
        ended()


def daemon(path: Path) -> Daemon:
    written = f"host: media\nremotes: [{{name: gitea, url: 'file:///x'}}]\nstate_dir: {path}\n"
    host = config.parse(written.encode(), "config.yaml", hostname="media")
    return Daemon(host, lambda: host)


async def _cycle(of: Daemon, cycle: Cycle) -> None:
    await of._cycle(cycle, cast("Judge", None), cast("Guard", _Quiet()))


class _Quiet:
    def recovered(self) -> None:
        pass


def test_a_cycle_waits_for_repairs_that_it_has_seen_begin_and_for_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPAIR_PAUSE_S", 0.01)

    async def main() -> None:
        agent = daemon(tmp_path)

        async def work() -> None:
            agent._wakes.look()
            await cycle.began.wait()

        cycle = Cycle(work, 0.05)
        with anyio.fail_after(5):
            await _cycle(agent, cycle)
        assert not cycle.repairing
        first, *later = [over for _, over in cycle.asked]
        assert not first
        assert later
        assert all(later)

    anyio.run(main)


def test_a_cycle_without_repairs_ends_without_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REPAIR_PAUSE_S", 3600)

    async def main() -> None:
        async def work() -> None:
            await anyio.sleep(0.01)  # the repairer waits by then

        with anyio.fail_after(60):
            await _cycle(daemon(tmp_path), Cycle(work))

    anyio.run(main)


def test_a_look_is_due_some_time_after_the_last_one_whatever_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to others all the time would put it off for ever."""
    monkeypatch.setattr(service, "REPAIR_PAUSE_S", 0.001)
    monkeypatch.setattr(service, "REPAIR_EVERY_S", 0.05)

    async def main() -> None:
        agent = daemon(tmp_path)

        async def work() -> None:
            with anyio.fail_after(5):
                while not any(anyway for anyway, _ in cycle.asked):
                    agent._wakes.look()
                    await anyio.sleep(0.001)

        cycle = Cycle(work)
        await _cycle(agent, cycle)
        assert any(anyway for anyway, _ in cycle.asked)

    anyio.run(main)


def test_what_happens_while_an_end_is_told_is_looked_at_in_the_next_cycle(tmp_path: Path) -> None:
    async def main() -> None:
        agent = daemon(tmp_path)

        async def work() -> None:
            await anyio.sleep(0.01)  # the repairer waits by then
            for say in (agent._wakes.tell, agent._wakes.tell, agent._wakes.look):
                say()

        await _cycle(agent, Cycle(work))
        with anyio.fail_after(5):
            await agent._wakes.asked()

    anyio.run(main)


# --- what a look misses ---


class _Listing(Struct):
    """Lists the containers as they were before something happened to one."""

    protection: Protection
    then: Callable[[], None] = lambda: None

    async def containers(self) -> tuple[Container, ...]:
        self.protection.disturbed.add("web")
        self.then()
        return ()


class _Partly(Struct):
    """What a look needs of the agent's parts."""

    protection: Protection
    observer: _Listing
    remotes: Any = None
    converger: Any = None
    journal: Any = None
    judge: Any = None
    config: Any = None
    trial: Any = None


class _Broken:
    async def run(self, *_: Any) -> HostState:
        raise TransientError("the journal cannot be read")


def _protection() -> Protection:
    return Protection(cast("Any", None), cast("Any", None))


def test_what_happens_while_the_containers_are_listed_is_looked_at_again() -> None:
    protection = _protection()
    protection.disturbed.add("before")
    partly = _Partly(protection, _Listing(protection), journal=_Broken())
    reconciler = Reconciler(cast("Parts", partly))
    suspended = Exemptions(suspensions=(Suspension(None, None, "", "2026-01-02T03:04:05Z"),))

    async def main() -> None:
        with pytest.raises(TransientError):
            await reconciler._situation(builders.desired(), None, suspended)

    anyio.run(main)
    assert protection.disturbed == {"web"}


class _Known:
    """A journal, remotes and a converger of a host on which ``web`` has drifted."""

    def __init__(self, basis: HostState) -> None:
        self._basis = basis
        self.busy: set[str] = set()
        self.repaired: list[str] = []

    async def save(self) -> None:
        pass

    async def releases(self) -> Any:
        return self._basis.releases

    async def attempts(self) -> Any:
        return {}

    async def exemptions(self) -> Exemptions:
        return Exemptions()

    def now(self) -> float:
        return self._basis.now

    async def repair(self, deploys: Any, _: Any) -> None:
        self.repaired += [each.stack.name for each in deploys]

    async def midway(self, _: Any) -> Verdict:
        return FOUND


@pytest.mark.parametrize("late", [False, True])
def test_no_repair_is_begun_once_its_cycle_is_over(late: bool) -> None:
    """Not even if it ends while the containers are listed: a new commit would wait for it."""
    basis = builders.situation([builders.stack("web")], [builders.release("web")])
    known, over = _Known(basis), anyio.Event()
    protection = _protection()
    protection.exemptions = known.exemptions  # type: ignore[method-assign]
    listing = _Listing(protection, over.set if late else lambda: None)
    whole = _Partly(protection, listing, known, known, known, known)
    reconciler = Reconciler(cast("Parts", whole))
    reconciler._basis = replace(basis, containers=())

    async def main() -> None:
        async with task_group() as group:
            await reconciler.repair(group, lambda: None, anyway=True, over=over.is_set)

    anyio.run(main)
    assert known.repaired == ([] if late else ["web"])
