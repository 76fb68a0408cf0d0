"""A manager's agent that is killed at any effect of a deploy costs nothing, the next goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file
from tests.system.killing import at, nth, once_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import Swarm
    from tests.sandbox.engine_proxy import Request
    from tests.system.conftest import Fleet
    from tests.system.killing import Fatal


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[EngineProxy]:
    with EngineProxy(fleet.box.engine.socket, fleet.box.root / "swarm-proxy.sock") as proxy:
        yield proxy


class _Story:
    """Rounds of the same: each commits another value of a config, and of one of two services."""

    def __init__(self, fleet: Fleet, swarm: Swarm, proxy: EngineProxy) -> None:
        self._fleet, self._swarm, self._proxy = fleet, swarm, proxy
        self._host = fleet.managed({"web": self._compose(0), "other": self._other()})
        self._host.config["docker"] = {"socket": proxy.host, "mode": "swarm"}
        self._host.write_config()
        self._untouched = self._tasks("web_still", "other_app")
        self._round = 0

    def _compose(self, number: int) -> str:
        still = {"image": self._fleet.idle}
        app = {"image": self._fleet.idle, "configs": ["word"], "environment": {"N": str(number)}}
        word = {"content": f"round {number}"}
        return stack_file({"app": app, "still": still}, configs={"word": word})

    def _other(self) -> str:
        return stack_file({"app": {"image": self._fleet.idle}})

    def _tasks(self, *names: str) -> dict[str, frozenset[str]]:
        found = self._swarm.task_ids()
        return {name: found[name] for name in names}

    def tell(self, fatal: Fatal | None = None, *, after: bool = False) -> list[Request]:
        """One round; killed at the first `fatal` effect, and the next start goes on."""
        self._round += 1
        stack = {"stacks/web/compose.yaml": self._compose(self._round)}
        sha = self._fleet.commit(f"round {self._round}", stack)
        effects = once_until(self._host, self._proxy, fatal, after=after)
        where = f"{'after' if after else 'before'} the last of {[*map(str, effects)]}"

        def in_sync() -> bool:
            return f"in sync with {sha[:7]}" in self._host.once().stdout

        wait_until(in_sync, what=f"the release, {where}", seconds=120)
        [app] = self._swarm.tasks("web_app")
        assert f"N={self._round}" in app["Spec"]["ContainerSpec"]["Env"], where
        assert self._tasks("web_still", "other_app") == self._untouched, where
        rolled = self._swarm.tasks("web_app", running=False)
        ours = [t for t in rolled if f"N={self._round}" in t["Spec"]["ContainerSpec"]["Env"]]
        assert len(ours) == 1, where  # once
        before = self._swarm.services(), self._host.json("history")
        assert self._host.once().returncode == 0
        assert (self._swarm.services(), self._host.json("history")) == before, where
        return effects


def test_a_manager_killed_at_each_kind_of_effect_goes_on(
    fleet: Fleet, swarm: Swarm, proxy: EngineProxy, pytestconfig: pytest.Config
) -> None:
    story = _Story(fleet, swarm, proxy)
    effects = story.tell()
    assert {effect.kind for effect in effects} >= {
        "POST /configs/create",
        "POST /services/*/update",
    }
    if pytestconfig.getoption("--every-effect"):
        for number in range(1, len(effects) + 1):
            story.tell(at(number))
            story.tell(at(number), after=True)
        return
    for kind in dict.fromkeys(effect.kind for effect in effects):
        story.tell(nth(kind))
        story.tell(nth(kind), after=True)


def test_a_manager_killed_in_a_rollback_goes_on_with_it(
    fleet: Fleet, swarm: Swarm, proxy: EngineProxy
) -> None:
    good = stack_file({"app": {"image": fleet.idle}, "still": {"image": fleet.idle}})
    host = fleet.managed({"web": good})
    host.config["docker"] = {"socket": proxy.host, "mode": "swarm"}
    host.write_config()
    still = swarm.task_ids()["web_still"]
    points = [("POST /services/*/update", n) for n in (2, 3)] + [("POST /configs/*/update", 2)]
    for number, (kind, count) in enumerate(points, 1):
        bad = fleet.box.images.build("bad", f"1.{number}", command="exit 3")
        services = {"app": {"image": bad}, "still": {"image": fleet.idle}}
        fleet.commit(f"bad {number}", {"stacks/web/compose.yaml": stack_file(services)})
        once_until(host, proxy, nth(kind, count))

        def is_back() -> bool:
            return "web: its new release was not healthy" in host.once().stdout

        wait_until(is_back, what=f"the older release, before {kind} {count}", seconds=120)
        wait_until(lambda: swarm.images()["web_app"] == {fleet.idle}, what="the older image")
        assert swarm.task_ids()["web_still"] == still
