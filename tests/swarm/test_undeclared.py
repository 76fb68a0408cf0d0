"""What nobody declared is ended once, by the manager that leads; any later leader knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.domain.swarm.model import EVICTED
from tests.sandbox.process import wait_until
from tests.swarm.test_leaders import Agents, files

if TYPE_CHECKING:
    from tests.sandbox import Swarm
    from tests.sandbox.cluster import Cluster
    from tests.system.conftest import Fleet


def _ended(swarm: Swarm, name: str) -> None:
    def ended() -> bool:
        labels = swarm.service(name)["Spec"].get("Labels") or {}
        return EVICTED in labels and not swarm.tasks(name)

    wait_until(ended, what=f"{name} to be ended")


def test_what_one_leader_ended_the_next_one_keeps_and_brings_back(
    fleet: Fleet, trio: Cluster
) -> None:
    agents = Agents(fleet, trio)
    fleet.commit("first", files(fleet.idle))
    first = trio.leader()
    with agents.at_work():
        _, agent = agents.of(first)
        agent.says("in sync with")
        for node in agents.others(first):
            agents.of(node)[1].says("standby")

        def evictions() -> dict[str, list[tuple[str, str]]]:
            histories: dict[str, Any] = {
                name: host.json("history") for name, host in agents.hosts.items()
            }
            return {
                name: [(e["subject"], e["status"]) for e in found if e["action"] == "evict"]
                for name, found in histories.items()
            }

        other = agents.others(first)[0].swarm  # by hand, on a manager that stands by
        other.create("rogue", fleet.idle, replicas=2)
        _ended(other, "rogue")
        wait_until(lambda: evictions()[first.name] == [("rogue", "succeeded")], what="its record")
        assert sum(map(len, evictions().values())) == 1

        first.power_off()
        second = trio.leader()
        host, agent = agents.of(second)
        agent.says("rogue is kept: its label says that it was ended at")
        agent.says("in sync with")
        host.commitd("undo", "rogue", check=True)
        wait_until(lambda: len(second.swarm.tasks("rogue")) == 2, what="the rogue to be back")
        second.swarm.create("marker", fleet.idle)
        _ended(second.swarm, "marker")
        spec = second.swarm.service("rogue")["Spec"]
        assert (spec["Mode"], spec.get("Labels")) == ({"Replicated": {"Replicas": 2}}, {})
        assert len(second.swarm.tasks("web_a")) == 1
