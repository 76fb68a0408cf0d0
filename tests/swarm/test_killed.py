"""The only manager's agent is killed at an effect; the next one goes on, and does nothing twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.sandbox.engine_proxy import EngineProxy
from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file
from tests.swarm.repository import RUNNING, STACKS, WITH_CONFIG, WITH_SECRET, files
from tests.system.killing import at, nth, once_until

if TYPE_CHECKING:
    from tests.sandbox.cluster import Cluster
    from tests.sandbox.engine_proxy import Request
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet
    from tests.system.killing import Fatal

CHANGED = {WITH_CONFIG, WITH_SECRET, "web_worker"}


class Story:
    """Rounds in which all that an agent can do to a Swarm is due at once.

    One service gets another config, one another secret, and one another variable; a stack of one
    service leaves the list; and somebody has started a service that nobody declared.
    """

    def __init__(self, fleet: Fleet, cluster: Cluster, proxy: EngineProxy, host: Host) -> None:
        self._fleet, self._proxy, self._host = fleet, proxy, host
        self._swarm = cluster.nodes[0].swarm
        self._round = 0

    def commit(self, *more: str) -> str:
        """The repository of this round, with these stacks too."""
        number = str(self._round)
        given = files(
            self._fleet,
            stacks=(*STACKS, *more),
            setting=number,
            # Encrypted anew, the same word would be another file.
            word=f"word {number}" if not more or number == "0" else "",
            worker={"environment": {"ROUND": number}},
        )
        extra = stack_file({"app": {"image": self._fleet.idle}})
        return self._fleet.commit(
            f"round {number} {more}", {**given, "stacks/extra/compose.yaml": extra}
        )

    def in_sync(self, sha: str, where: str) -> None:
        """Have the agent look until all is as that commit says."""

        def found() -> bool:
            return f"in sync with {sha[:7]}" in self._host.once().stdout

        wait_until(found, what=f"the release, {where}", seconds=180)

    def play(self, fatal: Fatal | None = None, *, after: bool = False) -> list[Request]:
        """One round, killed at the first `fatal` effect."""
        self.in_sync(self.commit("extra"), "before it begins")
        before = self._swarm.task_ids()
        self._round += 1
        rogue = f"rogue{self._round}"
        self._swarm.create(rogue, self._fleet.idle)
        sha = self.commit()
        effects = once_until(self._host, self._proxy, fatal, after=after)
        where = f"{'after' if after else 'before'} the last of {[*map(str, effects)]}"
        self.in_sync(sha, where)
        self._swarm.wait_for({**RUNNING, rogue: 0})
        tasks = self._swarm.task_ids()
        assert {name for name in RUNNING if tasks[name] != before[name]} == CHANGED, where
        made = [
            task
            for task in self._swarm.tasks("web_worker", running=False)
            if f"ROUND={self._round}" in task["Spec"]["ContainerSpec"]["Env"]
        ]
        assert len(made) == RUNNING["web_worker"], where  # once
        # The one before is what the Swarm itself could go back to.
        assert len(self._swarm.names("secrets")) <= 2, where
        history = self._host.json("history")
        services = self._swarm.services()
        assert "in sync" in self._host.once().stdout
        assert (self._host.json("history"), self._swarm.services()) == (history, services), where
        assert [e["status"] for e in history if e["status"] in {"running", "failed"}] == [], where
        # It would be kept for a day, and shown in each of the next rounds.
        self._swarm.engine.api("DELETE", f"/services/{rogue}")
        return effects


@pytest.mark.timeout(2400)
def test_an_agent_killed_at_each_effect_goes_on(
    fleet: Fleet, pair: Cluster, pytestconfig: pytest.Config
) -> None:
    node = pair.nodes[0]
    host = fleet.connected(box=node.box, **fleet.of_a_swarm(node.box))
    with EngineProxy(node.engine.socket, node.box.root / "proxy.sock") as proxy:
        host.config["docker"]["socket"] = proxy.host
        host.write_config()
        story = Story(fleet, pair, proxy, host)
        story.play()
        effects = story.play()  # the first one has no older objects to remove
        kinds = dict.fromkeys(effect.kind for effect in effects)
        assert kinds.keys() >= {
            "POST /configs/create",
            "POST /secrets/create",
            "POST /services/*/update",
            "DELETE /configs/*",
            "DELETE /secrets/*",
            "DELETE /services/*",
        }
        if pytestconfig.getoption("--every-effect"):
            for number in range(1, len(effects) + 1):
                story.play(at(number))
                story.play(at(number), after=True)
            return
        for kind in kinds:
            story.play(nth(kind))
